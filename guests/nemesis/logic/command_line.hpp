// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <functional>
#include <iosfwd>
#include <memory>
#include <span>

#include "host.hpp"

namespace nemesis {

using OpenHost = std::function<Result<std::unique_ptr<Host>>()>;

/// Understands the words, opens a host, does it; returns the exit status.  The host is opened only
/// when the words make sense.
int run_command_line(std::span<const char* const> words, const OpenHost& open, std::ostream& out,
                     std::ostream& err);

}  // namespace nemesis
