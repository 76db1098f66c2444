// SPDX-License-Identifier: GPL-2.0-only
//
// Workload "burner": wants the CPU always.
#include "worker.hpp"

namespace nemesis {

void run_workload(std::uint32_t vcpu, const GuestParameters& parameters, ReportSlot& slot) {
  Worker worker(vcpu, parameters, slot);
  for (;;) worker.work();
}

}  // namespace nemesis
