// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstdint>

namespace nemesis {

/// CLOCK_MONOTONIC_RAW, ns; in dom0 that is Xen's system time from dom0's boot on, with nobody
/// steering it.
class Clock {
 public:
  Clock() = default;
  Clock(const Clock&) = delete;
  Clock& operator=(const Clock&) = delete;
  virtual ~Clock() = default;

  [[nodiscard]] virtual std::uint64_t now_ns() = 0;
  /// Returns at t_ns or as soon after as dom0 gets a pCPU; never before.
  virtual void sleep_until(std::uint64_t t_ns) = 0;
};

class SystemClock final : public Clock {
 public:
  [[nodiscard]] std::uint64_t now_ns() override;
  void sleep_until(std::uint64_t t_ns) override;
};

}  // namespace nemesis
