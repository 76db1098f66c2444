// SPDX-License-Identifier: GPL-2.0-only
//
// Workload "device_model": a stub domain that emulates its target's disk.  A request costs it
// cost_ns of CPU time, and what it takes to check and move a block.
#include "device_model.hpp"

namespace nemesis {

namespace {

platform::Windows windows;
disk::Store store;

}  // namespace

void run_workload(std::uint32_t vcpu, const GuestParameters& parameters, ReportSlot& slot) {
  Worker worker(vcpu, parameters, slot);
  const std::uint32_t bytes = parameters.block_bytes;
  if (bytes == 0 || bytes > disk::kMaxBlockBytes || bytes % disk::kUnitBytes != 0) {
    platform::fail(GuestFailure::kParameters, bytes);
  }
  if (parameters.vcpus != 1) platform::fail(GuestFailure::kParameters, parameters.vcpus);
  platform::Target target(parameters.target_domain, parameters.target_vcpus, windows);
  target.serve(disk::kPorts, disk::kPortBytes, disk::kMmio, disk::kMmioBytes);
  emulate(worker, target, bytes, parameters.cost_ns, store);
}

}  // namespace nemesis
