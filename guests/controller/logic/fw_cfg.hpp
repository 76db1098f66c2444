// SPDX-License-Identifier: GPL-2.0-only
//
// QEMU's fw_cfg, the way in for scenario and guest images (QEMU docs/specs/fw_cfg).
//
// Chosen because its contents come from the command line of the QEMU that restores a checkpoint,
// not from the checkpoint.  So the directory must be read anew each time, and nothing read across a
// restore may be trusted: the keys of the files move.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "clock.hpp"
#include "result.hpp"

namespace nemesis {

class FwCfgDevice {
 public:
  FwCfgDevice() = default;
  FwCfgDevice(const FwCfgDevice&) = delete;
  FwCfgDevice& operator=(const FwCfgDevice&) = delete;
  virtual ~FwCfgDevice() = default;

  virtual void select(std::uint16_t key) = 0;
  /// Fills bytes from the selected item, on from where the last read ended.
  virtual void read(std::span<std::byte> bytes) = 0;
};

class FwCfg {
 public:
  /// device must outlive the result.  ENODEV where there is no fw_cfg.
  [[nodiscard]] static Result<FwCfg> create(FwCfgDevice& device);

  /// ENOENT where no such file was given; EFBIG above 64 MiB.
  [[nodiscard]] Result<std::vector<std::byte>> read(std::string_view name);

 private:
  explicit FwCfg(FwCfgDevice& device) : device_(&device) {}
  FwCfgDevice* device_;
};

/// Waits while opt/nemesis/scenario is the placeholder "none\n", looking each ms; returns its text.
[[nodiscard]] Result<std::string> wait_for_scenario(FwCfg& fw_cfg, Clock& clock);

/// The ELF image that a scenario calls by name.
[[nodiscard]] Result<std::vector<std::byte>> read_image(FwCfg& fw_cfg, const std::string& name);

}  // namespace nemesis
