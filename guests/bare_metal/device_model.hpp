// SPDX-License-Identifier: GPL-2.0-only
//
// The device model at work: the disk's device (disk_device.hpp), asked by Xen's ioreqs.
#pragma once

#include "disk_device.hpp"
#include "target.hpp"
#include "worker.hpp"

namespace nemesis {

// Without a name, as in a workload: an image is one of them, and what is called once is inlined.
namespace {

class Host {
 public:
  Host(Worker& worker, platform::Target& target, std::uint64_t cost_ns)
      : worker_(worker), target_(target), cost_ns_(cost_ns) {}

  std::uint8_t* map(std::uint64_t frame) { return target_.map(frame); }
  static std::uint64_t clock_ns() { return platform::clock_ns(0); }
  void look() { worker_.look(); }
  void work() {
    worker_.look();
    if (cost_ns_ != 0) worker_.work_for(cost_ns_);
  }

 private:
  Worker& worker_;
  platform::Target& target_;
  std::uint64_t cost_ns_;
};

std::uint64_t narrow(std::uint64_t data, std::uint32_t bytes) {
  return bytes >= sizeof(data) ? data : data & ((1ULL << (bytes * 8)) - 1);
}

void answer(disk::Device<Host>& device, platform::Target& target, ioreq_t& asked) {
  const bool port = asked.type == IOREQ_TYPE_PIO;
  if (port || asked.type == IOREQ_TYPE_COPY) {
    const std::uint64_t data = device.access({.port = port,
                                              .write = asked.dir == IOREQ_WRITE,
                                              .plain = !asked.data_is_ptr && asked.count == 1,
                                              .address = asked.addr,
                                              .bytes = asked.size,
                                              .data = narrow(asked.data, asked.size)});
    if (asked.dir == IOREQ_READ && !asked.data_is_ptr) asked.data = data;
    return;
  }
  if (asked.type == IOREQ_TYPE_INVALIDATE) target.forget();
}

/// Answers what a target asks that is being served, for ever.  A request costs cost_ns of CPU time,
/// and what it takes to check and move a block.
[[noreturn, gnu::always_inline]] inline void emulate(Worker& worker, platform::Target& target,
                                                     std::uint32_t block_bytes,
                                                     std::uint64_t cost_ns, disk::Store& store) {
  Host host(worker, target, cost_ns);
  disk::Device<Host> device(host, block_bytes, store, device_page.counts);
  device_page.format = kDeviceFormat;
  for (;;) {
    bool idle = true;
    for (std::uint32_t asking = 0; asking < target.vcpus(); ++asking) {
      ioreq_t* asked = target.take(asking);
      if (asked == nullptr) continue;
      answer(device, target, *asked);
      worker.look();
      target.answer(asking);
      idle = false;
    }
    if (idle) worker.wait_for_any(target.ports(), target.vcpus());
  }
}

}  // namespace

}  // namespace nemesis
