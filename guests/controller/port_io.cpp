// SPDX-License-Identifier: GPL-2.0-only
#include "port_io.hpp"

#include <sys/io.h>
#include <sys/reboot.h>
#include <unistd.h>

#include <cerrno>

namespace nemesis {

namespace {
constexpr std::uint16_t kDebugconPort = 0xe9;
constexpr std::uint16_t kExitPort = 0x501;
constexpr std::uint16_t kFwCfgSelectPort = 0x510;
constexpr std::uint16_t kFwCfgDataPort = 0x511;
}  // namespace

Result<PortIo> PortIo::create() {
  if (iopl(3) != 0)
    return Error{errno,
                 "iopl(3): no leave to use I/O ports; kernel without CONFIG_X86_IOPL_IOPERM?"};
  return PortIo();
}

void PortIo::out8(std::uint16_t port, std::uint8_t value) const {
  outb(value, port);
}

void PortIo::out16(std::uint16_t port, std::uint16_t value) const {
  outw(value, port);
}

void PortIo::out_bytes(std::uint16_t port, std::string_view bytes) const {
  outsb(port, bytes.data(), bytes.size());
}

void PortIo::in_bytes(std::uint16_t port, std::span<std::byte> bytes) const {
  insb(port, bytes.data(), bytes.size());
}

void DebugconSink::write(std::string_view line) {
  ports_.out_bytes(kDebugconPort, line);
}

void FwCfgPorts::select(std::uint16_t key) {
  ports_.out16(kFwCfgSelectPort, key);
}

void FwCfgPorts::read(std::span<std::byte> bytes) {
  ports_.in_bytes(kFwCfgDataPort, bytes);
}

void exit_machine(PortIo ports, std::uint8_t code) {
  ports.out8(kExitPort, code);
  // Only where QEMU has no such device.
  reboot(RB_POWER_OFF);
  for (;;) pause();
}

}  // namespace nemesis
