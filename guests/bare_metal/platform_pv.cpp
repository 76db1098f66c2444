// SPDX-License-Identifier: GPL-2.0-only
//
// The platform as a 64-bit PV guest.
//
// No trap table is registered: a fault of ours has no handler, so Xen kills the domain as crashed,
// and the controller sees it.
#include "platform_pv.hpp"

#include "platform_xen.hpp"

extern "C" {
[[noreturn]] void platform_main(start_info_t* start_info);
[[noreturn]] void pv_secondary_entry();
}

namespace nemesis::platform {

namespace {

constexpr std::uint64_t kPtePresentWritableUserAccessed = 0x27;

vcpu_guest_context_t secondary_context;
const start_info_t* start;

void map_shared_info() {
  const long result = xen::hypercall<__HYPERVISOR_update_va_mapping>(
      xen::address(shared_info_bytes), start->shared_info | kPtePresentWritableUserAccessed,
      UVMF_INVLPG | UVMF_LOCAL);
  if (result != 0) fail(GuestFailure::kSharedInfo, static_cast<std::uint64_t>(result));
}

void start_vcpu(std::uint32_t vcpu) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): Xen speaks of addresses
  const auto* pfn_to_mfn = reinterpret_cast<const std::uint64_t*>(start->mfn_list);
  vcpu_guest_context_t& context = secondary_context;
  __builtin_memset(&context, 0, sizeof(context));
  context.flags = VGCF_in_kernel;
  context.user_regs.rip = reinterpret_cast<std::uint64_t>(&pv_secondary_entry);
  context.user_regs.rsp = stack_of(vcpu);
  context.user_regs.rdi = vcpu;
  context.user_regs.cs = FLAT_KERNEL_CS;
  context.user_regs.ss = FLAT_KERNEL_SS;
  context.user_regs.ds = FLAT_KERNEL_DS;
  context.user_regs.es = FLAT_KERNEL_DS;
  context.kernel_ss = FLAT_KERNEL_SS;
  context.kernel_sp = context.user_regs.rsp;
  // Virtual = physical in this image, so the page table's address gives its pfn.
  context.ctrlreg[3] = pfn_to_mfn[start->pt_base >> kPageShift] << kPageShift;
  launch(vcpu, xen::address(&context));
}

}  // namespace

const start_info_t& start_info() {
  return *start;
}

}  // namespace nemesis::platform

void platform_main(start_info_t* start_info) {
  nemesis::platform::start = start_info;
  nemesis::platform::map_shared_info();
  nemesis::platform::run_first(nemesis::platform::start_vcpu);
}
