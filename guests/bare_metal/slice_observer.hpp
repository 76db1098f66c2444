// SPDX-License-Identifier: GPL-2.0-only
//
// How a vCPU sees its own timeslices, by its own clock alone.
//
// The clock is looked at after each chunk of work.  A step longer than the threshold means that the
// vCPU was off its pCPU somewhere in that chunk.  Such a step still holds one chunk's worth of
// running; as the chunk's place in the step is unknown, the running mean of undisturbed chunks is
// counted as run and the rest as the gap.  A vCPU that sleeps or waits says so.  Invariant: ran_ns
// + gap_ns + idle_ns = last clock − first clock, exactly.
//
// The threshold must lie above an undisturbed chunk and below the shortest preemption.  Under
// QEMU's icount all pCPUs take turns in one instruction stream, so an undisturbed vCPU already sees
// steps of up to (pCPUs − 1) turns.
#pragma once

#include <cstdint>

#include "nemesis/report_page.hpp"

namespace nemesis {

class SliceObserver {
 public:
  constexpr SliceObserver(std::uint64_t gap_threshold_ns, std::uint64_t start_ns)
      : gap_threshold_ns_(gap_threshold_ns) {
    report_.clock_ns = start_ns;
    report_.slices = 1;
  }

  /// One chunk was finished; the clock now reads now_ns.  A clock that stepped back (a few ns,
  /// between pCPUs) counts as no time.
  constexpr void chunk_done(std::uint64_t now_ns) {
    ++report_.work;
    if (now_ns <= report_.clock_ns) return;
    const std::uint64_t step_ns = now_ns - report_.clock_ns;
    report_.clock_ns = now_ns;
    if (step_ns <= gap_threshold_ns_) {
      report_.ran_ns += step_ns;
      learn_chunk(step_ns);
      return;
    }
    const std::uint64_t gap_ns = step_ns - chunk_ns();
    ++report_.slices;
    report_.ran_ns += chunk_ns();
    report_.gap_ns += gap_ns;
    if (gap_ns > report_.longest_gap_ns) report_.longest_gap_ns = gap_ns;
  }

  /// It had nothing to do until wanted_ns, and goes on now: late, if that is later.
  constexpr void woke(std::uint64_t wanted_ns, std::uint64_t now_ns) {
    if (now_ns <= report_.clock_ns) return;
    const std::uint64_t idle_until_ns = clamp(wanted_ns, report_.clock_ns, now_ns);
    const std::uint64_t late_ns = now_ns - idle_until_ns;
    report_.idle_ns += idle_until_ns - report_.clock_ns;
    report_.gap_ns += late_ns;
    report_.clock_ns = now_ns;
    ++report_.slices;
    answered(late_ns);
  }

  /// Something that it waited for came after so long.
  constexpr void answered(std::uint64_t late_ns) {
    ++report_.wakes;
    report_.late_ns += late_ns;
    if (late_ns > report_.longest_late_ns) report_.longest_late_ns = late_ns;
  }

  /// It did not want to run since the last look at the clock.
  constexpr void idled(std::uint64_t now_ns) {
    if (now_ns <= report_.clock_ns) return;
    report_.idle_ns += now_ns - report_.clock_ns;
    report_.clock_ns = now_ns;
    ++report_.slices;
  }

  [[nodiscard]] constexpr const GuestReport& report() const { return report_; }

  /// Mean duration of an undisturbed chunk; at most the threshold.
  [[nodiscard]] constexpr std::uint64_t chunk_ns() const { return chunk_scaled_ns_ / kScale; }

 private:
  static constexpr std::uint64_t kScale = 16;  // also the weight of history in the mean

  static constexpr std::uint64_t clamp(std::uint64_t value, std::uint64_t low, std::uint64_t high) {
    return value < low ? low : value > high ? high : value;
  }

  constexpr void learn_chunk(std::uint64_t step_ns) {
    if (chunk_scaled_ns_ == 0) {
      chunk_scaled_ns_ = step_ns * kScale;
    } else {
      chunk_scaled_ns_ = chunk_scaled_ns_ - chunk_scaled_ns_ / kScale + step_ns;
    }
  }

  std::uint64_t gap_threshold_ns_;
  std::uint64_t chunk_scaled_ns_ = 0;
  GuestReport report_{};
};

}  // namespace nemesis
