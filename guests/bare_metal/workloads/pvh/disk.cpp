// SPDX-License-Identifier: GPL-2.0-only
//
// Workload "disk": vCPU 0 asks its disk for something at each multiple of period_ns, plus phase_ns,
// or as soon as it can where that is 0, and burns run_ns of CPU time in between.  Further vCPUs
// burn.
#include "disk_driver.hpp"
#include "worker.hpp"

namespace nemesis {

namespace {

constexpr std::uint64_t kLookAgainNs = 1'000'000;

disk::Buffers buffers;

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

void run_workload(std::uint32_t vcpu, const GuestParameters& parameters, ReportSlot& slot) {
  Worker worker(vcpu, parameters, slot);
  if (vcpu != 0) {
    for (;;) worker.work();
  }
  Machine machine(worker);
  disk::Driver<Machine> driver(machine, buffers, device_page, parameters.seed,
                               parameters.malformed_every);
  for (;;) {
    while (!driver.connected() && !driver.connect()) {
      worker.sleep_until(worker.now_ns() + kLookAgainNs);
    }
    if (parameters.period_ns != 0) worker.sleep_until(next_start(worker.now_ns(), parameters));
    driver.step();
    if (parameters.run_ns != 0) worker.work_for(parameters.run_ns);
  }
}

}  // namespace nemesis
