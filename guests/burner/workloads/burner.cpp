// SPDX-License-Identifier: GPL-2.0-only
//
// Workload "burner": wants the CPU always, and tells how much of it it got.
#include "platform.hpp"
#include "slice_observer.hpp"

namespace nemesis {

namespace {

/// Marsaglia's xorshift64.  The empty asm keeps each round, without a store.
std::uint64_t burn(std::uint64_t state, std::uint64_t rounds) {
  for (; rounds != 0; --rounds) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    asm volatile("" : "+r"(state));
  }
  return state;
}

}  // namespace

void run_workload(std::uint32_t vcpu, const GuestParameters& parameters, ReportSlot& slot) {
  std::uint64_t state = parameters.seed + vcpu;
  SliceObserver observer(parameters.gap_threshold_ns, platform::clock_ns(vcpu));
  for (;;) {
    state = burn(state, parameters.chunk_iterations);
    observer.chunk_done(platform::clock_ns(vcpu));
    GuestReport report = observer.report();
    platform::add_runstate(vcpu, report);
    publish(slot, report);
  }
}

}  // namespace nemesis
