// SPDX-License-Identifier: GPL-2.0-only
//
// What an errno of the hypercall means to a person, and to a script.
#pragma once

#include <string>

#include "domains.hpp"
#include "host.hpp"

namespace nemesis {

/// Exit statuses; the man page has them.
inline constexpr int kExitDone = 0;
inline constexpr int kExitRefused = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitNotPermitted = 3;
inline constexpr int kExitNotSupported = 4;

struct Attempt {
  enum class What { kAdd, kRemove, kDestroy, kSet, kGet } what = What::kGet;
  DomainId master = 0;
  DomainId member = 0;  ///< as master, where there is none
};

/// One sentence: what was wanted, why it was refused, and what would help.
[[nodiscard]] std::string sentence(int errnum, const Attempt& attempt, const Domains& domains,
                                   Host& host);

[[nodiscard]] int exit_status(int errnum);

/// As in "EBUSY".
[[nodiscard]] std::string errno_name(int errnum);

}  // namespace nemesis
