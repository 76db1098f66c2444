// SPDX-License-Identifier: GPL-2.0-only
#include "slice_observer.hpp"

#include <gtest/gtest.h>

namespace nemesis {
namespace {

constexpr std::uint64_t kThresholdNs = 300'000;
constexpr std::uint64_t kChunkNs = 20'000;

TEST(SliceObserver, UndisturbedIsOneSliceWithoutGaps) {
  SliceObserver observer(kThresholdNs, 1000);
  for (std::uint64_t i = 1; i <= 100; ++i) observer.chunk_done(1000 + i * kChunkNs);
  EXPECT_EQ(observer.report().work, 100U);
  EXPECT_EQ(observer.report().ran_ns, 100 * kChunkNs);
  EXPECT_EQ(observer.report().slices, 1U);
  EXPECT_EQ(observer.report().gap_ns, 0U);
  EXPECT_EQ(observer.chunk_ns(), kChunkNs);
}

TEST(SliceObserver, SleepIsIdleAndLatenessIsAGap) {
  SliceObserver observer(kThresholdNs, 0);
  observer.chunk_done(kChunkNs);
  observer.woke(5 * kChunkNs, 7 * kChunkNs);
  observer.woke(6 * kChunkNs, 8 * kChunkNs);  // what it wanted to wake for was over already
  observer.idled(10 * kChunkNs);
  observer.answered(kChunkNs);
  const GuestReport& report = observer.report();
  EXPECT_EQ(report.ran_ns, kChunkNs);
  EXPECT_EQ(report.idle_ns, 4 * kChunkNs + 2 * kChunkNs);
  EXPECT_EQ(report.gap_ns, 3 * kChunkNs);
  EXPECT_EQ(report.ran_ns + report.gap_ns + report.idle_ns, report.clock_ns);
  EXPECT_EQ(report.wakes, 3U);
  EXPECT_EQ(report.late_ns, 4 * kChunkNs);
  EXPECT_EQ(report.longest_late_ns, 2 * kChunkNs);
}

// 10 ms periods, 1 ms on: what a cap of 10 % looks like from inside.
TEST(SliceObserver, CappedGuestSeesItsShare) {
  constexpr std::uint64_t kPeriodNs = 10'000'000;
  constexpr std::uint64_t kOnNs = 1'000'000;
  constexpr std::uint64_t kPeriods = 100;
  SliceObserver observer(kThresholdNs, 0);
  std::uint64_t ran_ns = 0;
  while (ran_ns < kPeriods * kOnNs) {
    ran_ns += kChunkNs;
    observer.chunk_done(ran_ns / kOnNs * kPeriodNs + ran_ns % kOnNs);
  }
  const GuestReport& report = observer.report();
  EXPECT_EQ(report.slices, kPeriods + 1);
  EXPECT_EQ(report.ran_ns, kPeriods * kOnNs);
  EXPECT_EQ(report.gap_ns, kPeriods * (kPeriodNs - kOnNs));
  EXPECT_EQ(report.longest_gap_ns, kPeriodNs - kOnNs);
  EXPECT_EQ(report.ran_ns + report.gap_ns, report.clock_ns);
}

TEST(SliceObserver, ThresholdItselfIsNoGap) {
  SliceObserver observer(kThresholdNs, 0);
  observer.chunk_done(kThresholdNs);
  EXPECT_EQ(observer.report().slices, 1U);
  observer.chunk_done(2 * kThresholdNs + 1);
  EXPECT_EQ(observer.report().slices, 2U);
}

TEST(SliceObserver, GapBeforeAnyChunkWasSeenCountsWhole) {
  SliceObserver observer(kThresholdNs, 0);
  observer.chunk_done(1'000'000);
  EXPECT_EQ(observer.report().gap_ns, 1'000'000U);
  EXPECT_EQ(observer.report().ran_ns, 0U);
}

TEST(SliceObserver, ClockThatStepsBackCountsAsNoTime) {
  SliceObserver observer(kThresholdNs, 1000);
  observer.chunk_done(900);
  EXPECT_EQ(observer.report().work, 1U);
  EXPECT_EQ(observer.report().clock_ns, 1000U);
  EXPECT_EQ(observer.report().ran_ns, 0U);
}

TEST(SliceObserver, ChunkMeanFollowsSlowly) {
  SliceObserver observer(kThresholdNs, 0);
  std::uint64_t now_ns = 0;
  for (int i = 0; i < 200; ++i) observer.chunk_done(now_ns += kChunkNs);
  for (int i = 0; i < 400; ++i) observer.chunk_done(now_ns += 4 * kChunkNs);
  EXPECT_NEAR(static_cast<double>(observer.chunk_ns()), 4 * kChunkNs, 16.0);
}

}  // namespace
}  // namespace nemesis
