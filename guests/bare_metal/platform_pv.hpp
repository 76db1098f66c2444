// SPDX-License-Identifier: GPL-2.0-only
//
// What only a PV guest has.
#pragma once

#include "hypercall.hpp"

namespace nemesis::platform {

/// As Xen gave it to vCPU 0.
[[nodiscard]] const start_info_t& start_info();

}  // namespace nemesis::platform
