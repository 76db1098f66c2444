// SPDX-License-Identifier: GPL-2.0-only
//
// Workload "periodic": runs for run_ns of CPU time from each multiple of period_ns, plus phase_ns,
// on.  Starts that it misses, as it is still busy, are lost.
#include "worker.hpp"

namespace nemesis {

void run_workload(std::uint32_t vcpu, const GuestParameters& parameters, ReportSlot& slot) {
  Worker worker(vcpu, parameters, slot);
  for (;;) {
    worker.sleep_until(next_start(worker.now_ns(), parameters));
    worker.work_for(parameters.run_ns);
  }
}

}  // namespace nemesis
