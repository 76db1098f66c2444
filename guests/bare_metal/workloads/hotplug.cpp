// SPDX-License-Identifier: GPL-2.0-only
//
// Workload "hotplug": vCPU 0 burns, and brings up the others at each multiple of period_ns, plus
// phase_ns; they burn for run_ns on the clock, and go down.
#include "worker.hpp"

namespace nemesis {

void run_workload(std::uint32_t vcpu, const GuestParameters& parameters, ReportSlot& slot) {
  Worker worker(vcpu, parameters, slot);
  for (;;) {
    if (vcpu != 0) {
      worker.work_until(worker.now_ns() + parameters.run_ns);
      worker.down();
      continue;
    }
    worker.work_until(next_start(worker.now_ns() + 1, parameters));
    for (std::uint32_t other = 1; other < parameters.vcpus; ++other) platform::vcpu_up(other);
  }
}

}  // namespace nemesis
