// SPDX-License-Identifier: GPL-2.0-only
#include "nemesis/report_page.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace nemesis {
namespace {

GuestReport report_of(std::uint64_t value) {
  GuestReport report{};
  report.work = value;
  report.clock_ns = value * 2;
  report.runstate_ns[3] = value * 3;
  return report;
}

TEST(ReportPage, SlotNeverPublishedReadsAsZeros) {
  const ReportSlot slot{};
  GuestReport report = report_of(7);
  ASSERT_TRUE(read_report(slot, report));
  EXPECT_EQ(report.work, 0U);
  EXPECT_EQ(report.runstate_ns[3], 0U);
}

TEST(ReportPage, LastPublishedIsRead) {
  ReportSlot slot{};
  for (std::uint64_t value = 1; value <= 5; ++value) {
    publish(slot, report_of(value));
    GuestReport report{};
    ASSERT_TRUE(read_report(slot, report));
    EXPECT_EQ(report.work, value);
    EXPECT_EQ(report.clock_ns, value * 2);
    EXPECT_EQ(report.runstate_ns[3], value * 3);
    EXPECT_EQ(slot.sequence, value);
  }
}

// The state that a vCPU leaves when it loses its pCPU in the middle of a write.
TEST(ReportPage, UnfinishedWriteLeavesTheOlderReport) {
  ReportSlot slot{};
  publish(slot, report_of(1));
  publish(slot, report_of(2));
  slot.halves[(slot.sequence + 1) & 1][0] = 99;
  slot.halves[(slot.sequence + 1) & 1][1] = 99;
  GuestReport report{};
  ASSERT_TRUE(read_report(slot, report));
  EXPECT_EQ(report.work, 2U);
  EXPECT_EQ(report.clock_ns, 4U);
}

TEST(ReportPage, NoAttemptsNoReport) {
  const ReportSlot slot{};
  GuestReport report = report_of(7);
  EXPECT_FALSE(read_report(slot, report, 0));
  EXPECT_EQ(report.work, 7U);
}

TEST(ReportPage, ReaderNeverSeesAMixture) {
  ReportSlot slot{};
  publish(slot, report_of(1));
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (std::uint64_t value = 2; !stop; ++value) publish(slot, report_of(value));
  });
  std::uint64_t previous = 0;
  for (int i = 0; i < 20000; ++i) {
    GuestReport report{};
    if (!read_report(slot, report)) continue;
    ASSERT_EQ(report.clock_ns, report.work * 2);
    ASSERT_EQ(report.runstate_ns[3], report.work * 3);
    ASSERT_GE(report.work, previous);
    previous = report.work;
  }
  stop = true;
  writer.join();
}

}  // namespace
}  // namespace nemesis
