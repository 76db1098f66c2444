// SPDX-License-Identifier: GPL-2.0-only
//
// The platform as a hardware-virtualised guest, PVH or HVM: one and the same image, started by the
// PVH ABI; they differ in what Xen emulates around them.
//
// Physical = virtual below 1 GiB, by the page tables of entry_pvh.S.  There is no descriptor table
// for traps: a fault of ours becomes a triple fault, Xen shuts the domain down as crashed, and the
// controller sees it.
#include "platform_xen.hpp"

// clang-format off
#include <xen/hvm/hvm_vcpu.h>
#include <xen/memory.h>
// clang-format on

extern "C" {
[[noreturn]] void platform_main();
[[noreturn]] void pvh_secondary_entry();
extern std::uint8_t hypercall_page[nemesis::platform::kPageBytes];
extern std::uint64_t page_map_level4[512];
}

namespace nemesis::platform {

namespace {

constexpr std::uint32_t kFirstXenLeaf = 0x40000000;
constexpr std::uint32_t kLeafStep = 0x100;
constexpr std::uint32_t kLastXenLeaf = 0x40010000;
constexpr std::uint32_t kXenSignature = 0x566e6558;  // "XenV"
constexpr std::uint64_t kCr0 = 0x80000011;           // PG, ET, PE
constexpr std::uint64_t kCr4 = 0x20;                 // PAE
constexpr std::uint64_t kEfer = 0x500;               // LME, LMA

vcpu_hvm_context_t secondary_context;

struct CpuId {
  std::uint32_t eax, ebx, ecx, edx;
};

CpuId cpuid(std::uint32_t leaf) {
  CpuId found{};
  asm volatile("cpuid"
               : "=a"(found.eax), "=b"(found.ebx), "=c"(found.ecx), "=d"(found.edx)
               : "a"(leaf), "c"(0));
  return found;
}

void write_msr(std::uint32_t number, std::uint64_t value) {
  asm volatile("wrmsr"
               :
               : "c"(number), "a"(static_cast<std::uint32_t>(value)),
                 "d"(static_cast<std::uint32_t>(value >> 32))
               : "memory");
}

void fill_hypercall_page() {
  for (std::uint32_t leaf = kFirstXenLeaf; leaf < kLastXenLeaf; leaf += kLeafStep) {
    if (cpuid(leaf).ebx != kXenSignature) continue;
    write_msr(cpuid(leaf + 2).ebx, xen::address(hypercall_page));
    return;
  }
  for (;;) asm volatile("ud2");
}

void map_shared_info() {
  xen_add_to_physmap_t request{};
  request.domid = DOMID_SELF;
  request.space = XENMAPSPACE_shared_info;
  request.gpfn = xen::address(shared_info_bytes) >> kPageShift;
  const long result =
      xen::hypercall<__HYPERVISOR_memory_op>(XENMEM_add_to_physmap, xen::address(&request));
  if (result != 0) fail(GuestFailure::kSharedInfo, static_cast<std::uint64_t>(result));
}

void start_vcpu(std::uint32_t vcpu) {
  __builtin_memset(&secondary_context, 0, sizeof(secondary_context));
  secondary_context.mode = VCPU_HVM_MODE_64B;
  vcpu_hvm_x86_64& context = secondary_context.cpu_regs.x86_64;
  context.rip = reinterpret_cast<std::uint64_t>(&pvh_secondary_entry);
  context.rsp = stack_of(vcpu);
  context.rdi = vcpu;
  context.cr0 = kCr0;
  context.cr3 = xen::address(page_map_level4);
  context.cr4 = kCr4;
  context.efer = kEfer;
  launch(vcpu, xen::address(&secondary_context));
}

}  // namespace

}  // namespace nemesis::platform

void platform_main() {
  nemesis::platform::fill_hypercall_page();
  nemesis::platform::map_shared_info();
  nemesis::platform::run_first(nemesis::platform::start_vcpu);
}
