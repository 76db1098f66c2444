// SPDX-License-Identifier: GPL-2.0-only
#include "fw_cfg.hpp"

#include <array>
#include <cerrno>
#include <cstring>

namespace nemesis {

namespace {

constexpr std::uint16_t kSignatureKey = 0x0000;
constexpr std::uint16_t kDirectoryKey = 0x0019;
constexpr std::size_t kNameBytes = 56;
constexpr std::size_t kEntryBytes = 64;
constexpr std::size_t kMaxFiles = 4096;
constexpr std::size_t kMaxFileBytes = 64ULL * 1024 * 1024;

constexpr std::string_view kScenarioFile = "opt/nemesis/scenario";
constexpr std::string_view kImageFolder = "opt/nemesis/guest/";
constexpr std::string_view kPlaceholder = "none\n";
constexpr std::uint64_t kPollNs = 1'000'000;

std::uint32_t big_endian(std::span<const std::byte> bytes) {
  std::uint32_t value = 0;
  for (const std::byte byte : bytes) value = (value << 8) | std::to_integer<std::uint32_t>(byte);
  return value;
}

Result<std::string> read_text(FwCfg& fw_cfg) {
  auto bytes = fw_cfg.read(kScenarioFile);
  if (!bytes) return bytes.error();
  return std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size());
}

}  // namespace

Result<FwCfg> FwCfg::create(FwCfgDevice& device) {
  std::array<std::byte, 4> signature{};
  device.select(kSignatureKey);
  device.read(signature);
  if (std::memcmp(signature.data(), "QEMU", signature.size()) != 0) {
    return Error{ENODEV,
                 "fw_cfg: no such device at ports 0x510, 0x511; the controller runs in QEMU only"};
  }
  return FwCfg(device);
}

Result<std::vector<std::byte>> FwCfg::read(std::string_view name) {
  std::array<std::byte, 4> count_bytes{};
  device_->select(kDirectoryKey);
  device_->read(count_bytes);
  const std::size_t count = big_endian(count_bytes);
  if (count > kMaxFiles)
    return Error{EIO, "fw_cfg: a directory of " + std::to_string(count) + " files"};

  std::vector<std::byte> directory(count * kEntryBytes);
  device_->read(directory);
  for (std::size_t i = 0; i < count; ++i) {
    const auto entry = std::span<const std::byte>(directory).subspan(i * kEntryBytes, kEntryBytes);
    const char* entry_name = reinterpret_cast<const char*>(entry.subspan(8).data());
    if (std::string_view(entry_name, strnlen(entry_name, kNameBytes)) != name) continue;

    const std::size_t size = big_endian(entry.first(4));
    if (size > kMaxFileBytes)
      return Error{EFBIG, "fw_cfg: " + std::string(name) + " is above 64 MiB"};
    std::vector<std::byte> file(size);
    device_->select(static_cast<std::uint16_t>(big_endian(entry.subspan(4, 2))));
    device_->read(file);
    return file;
  }
  return Error{ENOENT, "fw_cfg: no file " + std::string(name) +
                           "; give it to QEMU by -fw_cfg name=" + std::string(name) + ",file=…"};
}

// A restore may fall between reading the directory and reading the file, which then is another one.
// So what looks like a scenario counts when two readings agree, and an absent file when it is
// absent twice.
Result<std::string> wait_for_scenario(FwCfg& fw_cfg, Clock& clock) {
  for (;; clock.sleep_until(clock.now_ns() + kPollNs)) {
    const auto first = read_text(fw_cfg);
    if (first && *first == kPlaceholder) continue;
    auto second = read_text(fw_cfg);
    if (!first && !second) return second;
    if (first && second && *first == *second) return second;
  }
}

Result<std::vector<std::byte>> read_image(FwCfg& fw_cfg, const std::string& name) {
  return fw_cfg.read(std::string(kImageFolder) + name);
}

}  // namespace nemesis
