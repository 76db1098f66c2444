// SPDX-License-Identifier: GPL-2.0-only
#include "clock.hpp"

#include <ctime>

namespace nemesis {

namespace {
constexpr std::uint64_t kNsPerS = 1'000'000'000;
}

std::uint64_t SystemClock::now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_RAW, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * kNsPerS + static_cast<std::uint64_t>(now.tv_nsec);
}

// The raw clock cannot be slept on.  CLOCK_MONOTONIC runs at its rate (nobody steers dom0's clock),
// so what is left is slept on that, again until nothing is left.
void SystemClock::sleep_until(std::uint64_t t_ns) {
  for (std::uint64_t now = now_ns(); now < t_ns; now = now_ns()) {
    const std::uint64_t left_ns = t_ns - now;
    const timespec left{.tv_sec = static_cast<time_t>(left_ns / kNsPerS),
                        .tv_nsec = static_cast<long>(left_ns % kNsPerS)};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &left, nullptr);
  }
}

}  // namespace nemesis
