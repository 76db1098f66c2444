// SPDX-License-Identifier: GPL-2.0-only
//
// Workload "dodger": runs from phase_ns after each multiple of period_ns on, and sleeps when run_ns
// have gone by on the clock, got or not.  With the scheduler's tick for a period, it sleeps
// whenever a tick would find and charge it.
#include "worker.hpp"

namespace nemesis {

void run_workload(std::uint32_t vcpu, const GuestParameters& parameters, ReportSlot& slot) {
  Worker worker(vcpu, parameters, slot);
  for (;;) {
    const std::uint64_t start_ns = next_start(worker.now_ns(), parameters);
    worker.sleep_until(start_ns);
    worker.work_until(start_ns + parameters.run_ns);
  }
}

}  // namespace nemesis
