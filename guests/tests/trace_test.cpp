// SPDX-License-Identifier: GPL-2.0-only
#include "trace.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <string_view>

namespace nemesis {
namespace {

std::vector<std::byte> bytes_of(const std::vector<std::uint32_t>& words) {
  std::vector<std::byte> bytes(words.size() * sizeof(std::uint32_t));
  std::memcpy(bytes.data(), words.data(), bytes.size());
  return bytes;
}

constexpr std::uint32_t kStamped = 1U << 31;
constexpr std::uint32_t head(std::uint32_t event, std::uint32_t extra) {
  return event | extra << 28;
}

TEST(Trace, KeepsWholeRecordsOfThoseEvents) {
  const std::vector<std::uint32_t> wanted = {head(0x2800e, 3) | kStamped, 1, 2, 7, 8, 9};
  std::vector<std::uint32_t> all = {head(0x2f00a, 2), 0x2800e, 5};  // a data word is no head
  all.insert(all.end(), wanted.begin(), wanted.end());
  all.push_back(head(0x28013, 0));
  const std::vector<std::uint32_t> events = {0x2800e, 0x28014};
  const auto kept = only_events(bytes_of(all), events);
  ASSERT_TRUE(kept);
  EXPECT_EQ(*kept, bytes_of(wanted));
}

TEST(Trace, CutRecordIsAnError) {
  const std::vector<std::uint32_t> events = {1};
  const auto whole = bytes_of({head(1, 2) | kStamped, 0, 0, 3, 4});
  for (const std::size_t length : {2U, 4U, 12U, 19U}) {
    const auto kept = only_events(std::span(whole).first(length), events);
    ASSERT_FALSE(kept) << length;
    EXPECT_EQ(kept.error().errnum, EPROTO);
  }
  EXPECT_TRUE(only_events({}, events));
}

TEST(Trace, Base64) {
  const auto text = [](std::string_view bytes) { return base64(std::as_bytes(std::span(bytes))); };
  EXPECT_EQ(text(""), "");
  EXPECT_EQ(text("f"), "Zg==");
  EXPECT_EQ(text("fo"), "Zm8=");
  EXPECT_EQ(text("foobar"), "Zm9vYmFy");
  EXPECT_EQ(text("\xff\xfe"), "//4=");
}

}  // namespace
}  // namespace nemesis
