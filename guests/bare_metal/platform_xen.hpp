// SPDX-License-Identifier: GPL-2.0-only
//
// What the platforms share, and what platform_xen.cpp wants of each.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hypercall.hpp"
#include "platform.hpp"

namespace nemesis::platform {

inline constexpr std::size_t kPageBytes = 4096;
inline constexpr unsigned kPageShift = 12;
inline constexpr std::size_t kStackBytes = 8192;

extern std::uint8_t shared_info_bytes[kPageBytes];
extern std::uint8_t secondary_stacks[kMaxGuestVcpus][kStackBytes];

/// The same on all kinds, once the shared_info page is where shared_info_bytes is: checks the
/// parameters, brings up the other vCPUs by start_vcpu, and runs the workload.
[[noreturn]] void run_first(void (*start_vcpu)(std::uint32_t vcpu));

/// VCPUOP_initialise with the context, which must be of the kind, and VCPUOP_up.
void launch(std::uint32_t vcpu, std::uint64_t context);

/// The top of a vCPU's stack, as an address.
[[nodiscard]] std::uint64_t stack_of(std::uint32_t vcpu);

}  // namespace nemesis::platform
