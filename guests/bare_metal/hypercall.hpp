// SPDX-License-Identifier: GPL-2.0-only
//
// Hypercalls of a 64-bit guest, through the page that Xen fills in: of a PV guest when it builds
// the domain, of any other when the guest asks for it.
#pragma once

#include <cstdint>

// Xen's headers want the fixed-width types before them, and the version of the interface that we
// speak.
// NOLINTNEXTLINE(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)
#define __XEN_INTERFACE_VERSION__ __XEN_LATEST_INTERFACE_VERSION__
// clang-format off
#include <xen/xen.h>
#include <xen/event_channel.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
// clang-format on

namespace nemesis::xen {

/// Result as Xen gives it: negative errno, or ≥ 0.  Unused arguments are ignored by Xen.
template <unsigned kNumber>
inline long hypercall(std::uint64_t first, std::uint64_t second = 0, std::uint64_t third = 0) {
  long result = 0;
  asm volatile("call hypercall_page + %c[offset]"
               : "=a"(result), "+D"(first), "+S"(second), "+d"(third)
               : [offset] "i"(kNumber * 32)
               : "rcx", "r10", "r11", "memory");
  return result;
}

template <unsigned kNumber>
inline long hypercall4(std::uint64_t first, std::uint64_t second, std::uint64_t third,
                       std::uint64_t fourth) {
  long result = 0;
  register std::uint64_t r10 asm("r10") = fourth;
  asm volatile("call hypercall_page + %c[offset]"
               : "=a"(result), "+D"(first), "+S"(second), "+d"(third), "+r"(r10)
               : [offset] "i"(kNumber * 32)
               : "rcx", "r11", "memory");
  return result;
}

template <typename T>
[[nodiscard]] inline std::uint64_t address(T* pointer) {
  return reinterpret_cast<std::uint64_t>(pointer);
}

}  // namespace nemesis::xen
