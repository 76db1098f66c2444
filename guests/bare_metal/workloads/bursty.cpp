// SPDX-License-Identifier: GPL-2.0-only
//
// Workload "bursty": on for about run_ns of CPU time, off for about the rest of period_ns, at
// random.
#include "worker.hpp"

namespace nemesis {

void run_workload(std::uint32_t vcpu, const GuestParameters& parameters, ReportSlot& slot) {
  Worker worker(vcpu, parameters, slot);
  for (;;) {
    worker.work_for(worker.about(parameters.run_ns));
    worker.sleep_until(worker.now_ns() + worker.about(parameters.period_ns - parameters.run_ns));
  }
}

}  // namespace nemesis
