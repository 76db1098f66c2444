// SPDX-License-Identifier: GPL-2.0-only
//
// Workload "obedient": as "burner", for a toolstack: it reboots, or goes, when it is asked to.
#include "obey.hpp"
#include "store_pv.hpp"
#include "worker.hpp"

namespace nemesis {

void run_workload(std::uint32_t vcpu, const GuestParameters& parameters, ReportSlot& slot) {
  Worker worker(vcpu, parameters, slot);
  if (vcpu != 0) {
    for (;;) worker.work();
  }
  platform::Store store = platform::store();
  listen(store);
  for (;;) {
    worker.work();
    if (store.fired()) obey(store);
  }
}

}  // namespace nemesis
