// SPDX-License-Identifier: GPL-2.0-only
//
// The lab's wires, all I/O ports of QEMU's: records out, the exit status out, fw_cfg in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "fw_cfg.hpp"
#include "records.hpp"
#include "result.hpp"

namespace nemesis {

/// Leave to touch I/O ports.  Having one is having the leave.
class PortIo {
 public:
  /// EPERM when not root, or when Xen or the kernel forbids it.
  [[nodiscard]] static Result<PortIo> create();

  void out8(std::uint16_t port, std::uint8_t value) const;
  void out16(std::uint16_t port, std::uint16_t value) const;
  void out_bytes(std::uint16_t port, std::string_view bytes) const;
  void in_bytes(std::uint16_t port, std::span<std::byte> bytes) const;

 private:
  PortIo() = default;
};

/// isa-debugcon at 0xe9: synchronous, so it does not disturb the run's determinism.
class DebugconSink final : public LineSink {
 public:
  explicit DebugconSink(PortIo ports) : ports_(ports) {}
  void write(std::string_view line) override;

 private:
  PortIo ports_;
};

class FwCfgPorts final : public FwCfgDevice {
 public:
  explicit FwCfgPorts(PortIo ports) : ports_(ports) {}
  void select(std::uint16_t key) override;
  void read(std::span<std::byte> bytes) override;

 private:
  PortIo ports_;
};

/// isa-debug-exit at 0x501: QEMU ends with status (code << 1) | 1.
[[noreturn]] void exit_machine(PortIo ports, std::uint8_t code);

}  // namespace nemesis
