// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <span>
#include <string>

#include "result.hpp"

namespace nemesis {

/// How a command ended, and what it said.
struct Step {
  std::string out;
  std::string err;
  int status = 0;  ///< exit status, or 128 + the signal that ended it
};

/// Runs a command to its end, its input empty.  127: it could not be started, and err says why.
[[nodiscard]] Result<Step> run_step(std::span<char* const> command);

/// One line of JSON; bytes that are no UTF-8 are replaced.
[[nodiscard]] std::string step_record(const std::string& name, const Step& step);

}  // namespace nemesis
