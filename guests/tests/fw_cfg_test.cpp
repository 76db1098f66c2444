// SPDX-License-Identifier: GPL-2.0-only
#include "fw_cfg.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <map>

namespace nemesis {
namespace {

std::vector<std::byte> bytes_of(std::string_view text) {
  std::vector<std::byte> bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

/// QEMU's side: files get keys from 0x20 on, in order of their names.
class FakeDevice final : public FwCfgDevice {
 public:
  std::map<std::string, std::string> files;
  std::string signature = "QEMU";
  std::function<void()> before_select;

  void select(std::uint16_t key) override {
    if (before_select) before_select();
    offset_ = 0;
    item_.clear();
    if (key == 0) {
      item_ = bytes_of(signature);
    } else if (key == 0x19) {
      item_ = directory();
    } else if (key >= 0x20 && key - 0x20U < files.size()) {
      item_ = bytes_of(std::next(files.begin(), key - 0x20)->second);
    }
  }

  void read(std::span<std::byte> bytes) override {
    for (std::byte& byte : bytes) byte = offset_ < item_.size() ? item_[offset_++] : std::byte{0};
  }

 private:
  static void put(std::vector<std::byte>& bytes, std::uint32_t value, int width) {
    for (int shift = (width - 1) * 8; shift >= 0; shift -= 8)
      bytes.push_back(static_cast<std::byte>(value >> shift));
  }

  [[nodiscard]] std::vector<std::byte> directory() const {
    std::vector<std::byte> bytes;
    put(bytes, static_cast<std::uint32_t>(files.size()), 4);
    std::uint32_t key = 0x20;
    for (const auto& [name, text] : files) {
      put(bytes, static_cast<std::uint32_t>(text.size()), 4);
      put(bytes, key++, 2);
      put(bytes, 0, 2);
      std::vector<std::byte> field = bytes_of(name);
      field.resize(56);
      bytes.insert(bytes.end(), field.begin(), field.end());
    }
    return bytes;
  }

  std::vector<std::byte> item_;
  std::size_t offset_ = 0;
};

class FakeClock final : public Clock {
 public:
  std::function<void()> on_sleep;
  int sleeps = 0;
  std::uint64_t now = 0;
  std::uint64_t now_ns() override { return now; }
  void sleep_until(std::uint64_t t_ns) override {
    now = t_ns;
    ++sleeps;
    if (on_sleep) on_sleep();
  }
};

TEST(FwCfg, NoDeviceIsAnError) {
  FakeDevice device;
  device.signature = "\xff\xff\xff\xff";
  const auto fw_cfg = FwCfg::create(device);
  ASSERT_FALSE(fw_cfg);
  EXPECT_EQ(fw_cfg.error().errnum, ENODEV);
}

TEST(FwCfg, ReadsAFileByName) {
  FakeDevice device;
  device.files = {{"a", "first"}, {"opt/nemesis/guest/burner-pv", "ELF"}, {"z", "last"}};
  auto fw_cfg = FwCfg::create(device);
  ASSERT_TRUE(fw_cfg);
  const auto image = read_image(*fw_cfg, "burner-pv");
  ASSERT_TRUE(image);
  EXPECT_EQ(*image, bytes_of("ELF"));
}

TEST(FwCfg, NameOfFullLengthHasNoTerminator) {
  FakeDevice device;
  const std::string name(56, 'n');
  device.files = {{name, "x"}};
  auto fw_cfg = FwCfg::create(device);
  ASSERT_TRUE(fw_cfg);
  EXPECT_TRUE(fw_cfg->read(name));
}

TEST(FwCfg, MissingFileNamesItselfAndTheRemedy) {
  FakeDevice device;
  auto fw_cfg = FwCfg::create(device);
  ASSERT_TRUE(fw_cfg);
  const auto image = read_image(*fw_cfg, "burner-pv");
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().errnum, ENOENT);
  EXPECT_NE(image.error().what.find("-fw_cfg name=opt/nemesis/guest/burner-pv"), std::string::npos);
}

TEST(WaitForScenario, ReturnsAtOnceWhenItIsThere) {
  FakeDevice device;
  device.files = {{"opt/nemesis/scenario", "{}"}};
  FakeClock clock;
  auto fw_cfg = FwCfg::create(device);
  ASSERT_TRUE(fw_cfg);
  const auto text = wait_for_scenario(*fw_cfg, clock);
  ASSERT_TRUE(text);
  EXPECT_EQ(*text, "{}");
  EXPECT_EQ(clock.sleeps, 0);
}

TEST(WaitForScenario, LooksEachMillisecond) {
  FakeDevice device;
  device.files = {{"opt/nemesis/scenario", "none\n"}};
  FakeClock clock;
  clock.on_sleep = [&] {
    if (clock.sleeps == 3) device.files = {{"0", ""}, {"opt/nemesis/scenario", "{\"format\":1}"}};
  };
  auto fw_cfg = FwCfg::create(device);
  ASSERT_TRUE(fw_cfg);
  const auto text = wait_for_scenario(*fw_cfg, clock);
  ASSERT_TRUE(text);
  EXPECT_EQ(*text, "{\"format\":1}");
  EXPECT_EQ(clock.now, 3'000'000U);
}

// The machine is restored between any two accesses: keys and sizes move under the reader.
TEST(WaitForScenario, SurvivesARestoreAtAnyAccess) {
  for (int at = 1; at <= 12; ++at) {
    FakeDevice device;
    device.files = {{"opt/nemesis/scenario", "none\n"}, {"zz", "nonsense"}};
    FakeClock clock;
    auto fw_cfg = FwCfg::create(device);
    ASSERT_TRUE(fw_cfg);
    int selects = 0;
    device.before_select = [&] {
      if (++selects == at) {
        device.files = {{"a", "wrong"},
                        {"b", "wrong"},
                        {"opt/nemesis/scenario", "the scenario"},
                        {"zz", "nonsense"}};
      }
    };
    const auto text = wait_for_scenario(*fw_cfg, clock);
    ASSERT_TRUE(text) << at;
    EXPECT_EQ(*text, "the scenario") << at;
  }
}

TEST(WaitForScenario, AbsentFileIsAnError) {
  FakeDevice device;
  FakeClock clock;
  auto fw_cfg = FwCfg::create(device);
  ASSERT_TRUE(fw_cfg);
  const auto text = wait_for_scenario(*fw_cfg, clock);
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().errnum, ENOENT);
}

}  // namespace
}  // namespace nemesis
