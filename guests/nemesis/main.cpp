// SPDX-License-Identifier: GPL-2.0-only
//
// nemesis: groups of domains that run on the cap and the weight of one of them.
#include <iostream>
#include <span>

#include "command_line.hpp"
#include "xen_host.hpp"

int main(int argc, char** argv) {
  return nemesis::run_command_line(
      std::span<const char* const>(argv, static_cast<std::size_t>(argc)), &nemesis::XenHost::open,
      std::cout, std::cerr);
}
