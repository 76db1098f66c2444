// SPDX-License-Identifier: GPL-2.0-only
//
// What the benchmarks share.  They run in dom0, one after the other, on a host that is otherwise
// idle; every time is manual, around the one call that is meant, so that what prepares it is not in
// it.  In the lab the clock is the count of instructions: a figure is exact, and so are few
// iterations.
#pragma once

#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdint>
#include <vector>

#include "xen_libraries.hpp"

namespace nemesis::bench {

inline constexpr int kIterations = 32;

/// The call's own time, in seconds; it says whether the call worked.
template <typename Call>
bool timed(benchmark::State& state, const Call& call) {
  const auto start = std::chrono::steady_clock::now();
  const int result = call();
  const auto end = std::chrono::steady_clock::now();
  state.SetIterationTime(std::chrono::duration<double>(end - start).count());
  if (result < 0) state.SkipWithError("the call failed");
  return result >= 0;
}

/// Costs of domctls by the size of the group; `patched`: the hypervisor has groups.
void register_domctls(xc_interface* xch, bool patched);

/// Round trips to a domain that answers on this port of its own.
void register_ping_pong(std::uint32_t domid, std::uint32_t port);

}  // namespace nemesis::bench
