// SPDX-License-Identifier: GPL-2.0-only
//
// Workload "sleeper": wakes at random, period_ns apart in the mean, and does run_ns of work; what
// counts is how late it wakes.
#include "worker.hpp"

namespace nemesis {

void run_workload(std::uint32_t vcpu, const GuestParameters& parameters, ReportSlot& slot) {
  Worker worker(vcpu, parameters, slot);
  std::uint64_t wake_ns = worker.now_ns();
  for (;;) {
    wake_ns += worker.about(parameters.period_ns);
    if (wake_ns < worker.now_ns()) wake_ns = worker.now_ns();
    worker.sleep_until(wake_ns);
    worker.work_for(parameters.run_ns);
  }
}

}  // namespace nemesis
