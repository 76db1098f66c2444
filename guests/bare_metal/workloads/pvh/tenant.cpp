// SPDX-License-Identifier: GPL-2.0-only
//
// Workload "tenant": as "disk", for a toolstack: it reboots, or goes, when it is asked to in
// xenstore, and says there, once a second, what came of its requests.
#include "disk_machine.hpp"
#include "obey.hpp"
#include "platform_xen.hpp"

// clang-format off
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>
// clang-format on

extern "C" std::uint64_t page_map_level4[512];

namespace nemesis {

namespace {

using platform::Decimal;
using platform::Store;

constexpr std::uint64_t kLookAgainNs = 1'000'000;
constexpr std::uint64_t kBetweenNs = 200'000;
constexpr std::uint64_t kReportNs = 1'000'000'000;

disk::Buffers buffers;

std::uint64_t parameter(std::uint32_t index) {
  xen_hvm_param_t request{.domid = DOMID_SELF, .pad = 0, .index = index, .value = 0};
  const long result = xen::hypercall<__HYPERVISOR_hvm_op>(HVMOP_get_param, xen::address(&request));
  if (result != 0) platform::fail(GuestFailure::kStore, static_cast<std::uint64_t>(result));
  return request.value;
}

/// The ring is in the last of the first 4 GiB, where the entry's page tables do not reach.
xenstore_domain_interface& ring() {
  constexpr std::uint64_t kPresentWritable = 0x03;
  constexpr std::uint64_t kLarge = 0x80;
  constexpr unsigned kLargeShift = 21;
  alignas(platform::kPageBytes) static std::uint64_t directory[512];
  const std::uint64_t address = parameter(HVM_PARAM_STORE_PFN) << platform::kPageShift;
  // NOLINTNEXTLINE(performance-no-int-to-ptr): physical = virtual
  auto* pointers = reinterpret_cast<std::uint64_t*>(page_map_level4[0] & ~0xfffULL);
  directory[address >> kLargeShift & 511] =
      (address >> kLargeShift << kLargeShift) | kLarge | kPresentWritable;
  pointers[address >> 30 & 511] = xen::address(directory) | kPresentWritable;
  // NOLINTNEXTLINE(performance-no-int-to-ptr)
  return *reinterpret_cast<xenstore_domain_interface*>(address);
}

/// Toolstacks ask those HVM guests alone that have said how they want events.  With interrupts off
/// none is delivered.
void say_that_it_listens() {
  constexpr std::uint64_t kVector = 0xf3;
  xen_hvm_param_t request{.domid = DOMID_SELF,
                          .pad = 0,
                          .index = HVM_PARAM_CALLBACK_IRQ,
                          .value = std::uint64_t{HVM_PARAM_CALLBACK_TYPE_VECTOR} << 56 | kVector};
  const long result = xen::hypercall<__HYPERVISOR_hvm_op>(HVMOP_set_param, xen::address(&request));
  if (result != 0) platform::fail(GuestFailure::kStore, static_cast<std::uint64_t>(result));
}

void report(Store& store) {
  const DeviceCounts& counts = device_page.counts;
  const Decimal verified(counts.verified);
  const Decimal faults(counts.corrupt + counts.lost + counts.wrong + counts.unanswered +
                       counts.clock_wrong);
  store.ask(XS_WRITE, {"data/disk", Store::kEnd, verified.text(), " blocks verified, ",
                       faults.text(), " faults"});
}

}  // namespace

void run_workload(std::uint32_t vcpu, const GuestParameters& parameters, ReportSlot& slot) {
  Worker worker(vcpu, parameters, slot);
  if (vcpu != 0) {
    for (;;) worker.work();
  }
  Store store(ring(), static_cast<std::uint32_t>(parameter(HVM_PARAM_STORE_EVTCHN)));
  listen(store);
  say_that_it_listens();

  Machine machine(worker);
  disk::Driver<Machine> driver(machine, buffers, device_page, parameters.seed, 0);
  std::uint64_t report_ns = worker.now_ns() + kReportNs;
  for (;;) {
    while (!driver.connected() && !driver.connect()) {
      worker.sleep_until(worker.now_ns() + kLookAgainNs);
    }
    driver.step();
    worker.work_for(kBetweenNs);
    if (store.fired()) obey(store);
    if (worker.now_ns() >= report_ns) {
      report(store);
      report_ns = worker.now_ns() + kReportNs;
    }
  }
}

}  // namespace nemesis
