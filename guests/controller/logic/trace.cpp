// SPDX-License-Identifier: GPL-2.0-only
#include "trace.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace nemesis {

namespace {

constexpr std::uint32_t kEventMask = (1U << 28) - 1;
constexpr unsigned kExtraShift = 28;
constexpr std::uint32_t kExtraMask = 7;
constexpr unsigned kStampedShift = 31;
constexpr std::size_t kWord = sizeof(std::uint32_t);

std::size_t length_of(std::uint32_t head) {
  const std::size_t data = (head >> kExtraShift) & kExtraMask;
  const std::size_t stamp = (head >> kStampedShift) != 0 ? 2 : 0;
  return kWord * (1 + stamp + data);
}

}  // namespace

Result<std::vector<std::byte>> only_events(std::span<const std::byte> records,
                                           std::span<const std::uint32_t> events) {
  std::vector<std::byte> kept;
  while (!records.empty()) {
    std::uint32_t head = 0;
    if (records.size() < kWord) return Error{EPROTO, "trace: a record is cut"};
    std::memcpy(&head, records.data(), kWord);
    const std::size_t length = length_of(head);
    if (records.size() < length) return Error{EPROTO, "trace: a record is cut"};
    const auto record = records.first(length);
    if (std::find(events.begin(), events.end(), head & kEventMask) != events.end()) {
      kept.insert(kept.end(), record.begin(), record.end());
    }
    records = records.subspan(length);
  }
  return kept;
}

std::string base64(std::span<const std::byte> bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      group = group << 8 | (k < count ? std::to_integer<std::uint32_t>(bytes[i + k]) : 0);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      text += k <= count ? kDigits[(group >> (18 - 6 * k)) & 63] : '=';
    }
  }
  return text;
}

}  // namespace nemesis
