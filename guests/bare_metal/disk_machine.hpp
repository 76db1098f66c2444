// SPDX-License-Identifier: GPL-2.0-only
//
// The machine that the disk's driver (disk_driver.hpp) runs on: a hardware-virtualised guest.
#pragma once

#include "disk_driver.hpp"
#include "worker.hpp"

namespace nemesis {

// Without a name, as in a workload: an image is one of them, and what is called once is inlined.
namespace {

/// Ports and MMIO.  The time that an access takes is the device's, not ours.
class Machine {
 public:
  explicit Machine(Worker& worker) : worker_(worker) {}

  static std::uint64_t clock_ns() { return platform::clock_ns(0); }
  static std::uint64_t frame_of(const void* page) {
    return reinterpret_cast<std::uint64_t>(page) / disk::kPageBytes;
  }
  void look() { worker_.look(); }

  std::uint64_t in(std::uint16_t port, unsigned bytes) {
    return worker_.away([&] {
      std::uint32_t value = 0;
      if (bytes == 1) {
        asm volatile("inb %1, %b0" : "+a"(value) : "Nd"(port) : "memory");
      } else {
        asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
      }
      return std::uint64_t{value};
    });
  }
  void out(std::uint16_t port, std::uint32_t value) {
    worker_.away([&] {
      asm volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
      return 0;
    });
  }
  void out_string(std::uint16_t port, const std::uint32_t* data, std::uint64_t count) {
    worker_.away([&] {
      asm volatile("rep outsl" : "+S"(data), "+c"(count) : "d"(port) : "memory");
      return 0;
    });
  }
  std::uint64_t read(std::uint64_t address) {
    return worker_.away([&] {
      std::uint64_t value = 0;
      asm volatile("movq (%1), %0" : "=r"(value) : "r"(address) : "memory");
      return value;
    });
  }
  void write(std::uint64_t address, std::uint64_t value) {
    worker_.away([&] {
      asm volatile("movq %0, (%1)" : : "r"(value), "r"(address) : "memory");
      return 0;
    });
  }

 private:
  Worker& worker_;
};

}  // namespace

}  // namespace nemesis
