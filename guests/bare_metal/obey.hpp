// SPDX-License-Identifier: GPL-2.0-only
//
// What a toolstack asks of a guest: `xl reboot` and `xl shutdown` write a word to control/shutdown,
// in xenstore; the guest shuts down with that reason, and the rest is the toolstack's.
#pragma once

#include "store.hpp"

namespace nemesis {

/// Be told of it: store.fired() from now on.
inline void listen(platform::Store& store) {
  using platform::Store;
  store.ask(XS_WATCH, {"control/shutdown", Store::kEnd, "shutdown", Store::kEnd});
}

/// The node is empty there but while something is asked; emptied, it is answered.
inline void obey(platform::Store& store) {
  using platform::Store;
  const std::string_view asked = store.ask(XS_READ, {"control/shutdown", Store::kEnd});
  if (asked.empty()) return;
  sched_shutdown_t shutdown{.reason = SHUTDOWN_poweroff};
  if (asked == "reboot") shutdown.reason = SHUTDOWN_reboot;
  store.ask(XS_WRITE, {"control/shutdown", Store::kEnd});
  xen::hypercall<__HYPERVISOR_sched_op>(SCHEDOP_shutdown, xen::address(&shutdown));
}

}  // namespace nemesis
