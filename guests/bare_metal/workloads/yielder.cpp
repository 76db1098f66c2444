// SPDX-License-Identifier: GPL-2.0-only
//
// Workload "yielder": after each run_ns of CPU time, it lets others go first.
#include "worker.hpp"

namespace nemesis {

void run_workload(std::uint32_t vcpu, const GuestParameters& parameters, ReportSlot& slot) {
  Worker worker(vcpu, parameters, slot);
  for (;;) {
    worker.work_for(parameters.run_ns);
    worker.yield();
  }
}

}  // namespace nemesis
