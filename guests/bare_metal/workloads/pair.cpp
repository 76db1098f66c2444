// SPDX-License-Identifier: GPL-2.0-only
//
// Workload "pair": two domains that wake each other by turns, as a guest and its device model do.
// Each works for run_ns of CPU time per turn; the one that asks measures round trips.  Further
// vCPUs burn.
#include "worker.hpp"

namespace nemesis {

void run_workload(std::uint32_t vcpu, const GuestParameters& parameters, ReportSlot& slot) {
  Worker worker(vcpu, parameters, slot);
  if (vcpu != 0) {
    for (;;) worker.work();
  }
  const std::uint32_t port = platform::connect_peer();
  const bool asks = parameters.peer_is_remote != 0;
  worker.wait_for(port);  // who binds a port finds it pending
  for (;;) {
    worker.work_for(parameters.run_ns);
    if (asks) {
      worker.ask(port);
    } else {
      platform::notify(port);
      worker.wait_for(port);
    }
  }
}

}  // namespace nemesis
