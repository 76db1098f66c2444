// SPDX-License-Identifier: GPL-2.0-only
//
// Workload "lockstep": all vCPUs work for run_ns of CPU time, and spin until the last of them has.
#include "worker.hpp"

namespace nemesis {

void run_workload(std::uint32_t vcpu, const GuestParameters& parameters, ReportSlot& slot) {
  static std::uint64_t arrived;
  Worker worker(vcpu, parameters, slot);
  for (std::uint64_t round = 1;; ++round) {
    worker.work_for(parameters.run_ns);
    __atomic_fetch_add(&arrived, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&arrived, __ATOMIC_SEQ_CST) < round * parameters.vcpus) worker.work();
  }
}

}  // namespace nemesis
