// SPDX-License-Identifier: GPL-2.0-only
//
// Where a PV guest finds its line to xenstore.
#pragma once

#include "platform_pv.hpp"
#include "platform_xen.hpp"
#include "store.hpp"

namespace nemesis::platform {

/// Virtual = pfn, and all that Xen's builder gave us is mapped.
inline Store store() {
  const std::uint64_t frame = machine_to_phys_mapping[start_info().store_mfn];
  // NOLINTNEXTLINE(performance-no-int-to-ptr)
  auto* ring = reinterpret_cast<xenstore_domain_interface*>(frame << kPageShift);
  return {*ring, start_info().store_evtchn};
}

}  // namespace nemesis::platform
