// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <string>
#include <vector>

#include "result.hpp"

namespace nemesis {

struct ProgramOutcome {
  int status = 0;      ///< as a shell has it: 128 + signal where one ended it
  std::string output;  ///< what it wrote to stdout; stderr goes to the console
};

/// Runs a program of the image to its end.
[[nodiscard]] Result<ProgramOutcome> run_program(const std::vector<std::string>& words);

}  // namespace nemesis
