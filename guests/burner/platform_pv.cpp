// SPDX-License-Identifier: GPL-2.0-only
//
// The platform as a 64-bit PV guest.
//
// Events stay masked and no trap table is registered: a fault of ours has no handler, so Xen kills
// the domain as crashed, and the controller sees it.
#include "hypercall_pv.hpp"
#include "platform.hpp"

extern "C" {
[[noreturn]] void platform_main(start_info_t* start_info);
[[noreturn]] void platform_secondary(std::uint32_t vcpu);
[[noreturn]] void pv_secondary_entry();
}

namespace nemesis {

extern "C" {
[[gnu::section(".report"), gnu::used]] ReportPage report_page = {
    .header = {.magic = kReportMagic,
               .format = kReportFormat,
               .failure = GuestFailure::kNone,
               .failure_detail = 0,
               .parameters = {},
               .reserved = {}},
    .slots = {}};
}

namespace {

using pv::address;
using pv::hypercall;

constexpr std::size_t kPageBytes = 4096;
constexpr unsigned kPageShift = 12;
constexpr std::size_t kStackBytes = 8192;
constexpr std::uint64_t kPtePresentWritableUserAccessed = 0x27;

// The page behind this address becomes Xen's shared_info page.
alignas(kPageBytes) std::uint8_t shared_info_bytes[kPageBytes];
static_assert(sizeof(shared_info_t) <= kPageBytes);

alignas(16) std::uint8_t secondary_stacks[kMaxGuestVcpus][kStackBytes];

alignas(64) vcpu_runstate_info_t runstate_areas[kMaxGuestVcpus];

vcpu_guest_context_t secondary_context;

const shared_info_t& shared_info() {
  return *reinterpret_cast<const shared_info_t*>(shared_info_bytes);
}

std::uint64_t read_tsc() {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  asm volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
  return (std::uint64_t{high} << 32) | low;
}

void compiler_barrier() {
  asm volatile("" : : : "memory");
}

void map_shared_info(const start_info_t& start_info) {
  const long result = hypercall<__HYPERVISOR_update_va_mapping>(
      address(shared_info_bytes), start_info.shared_info | kPtePresentWritableUserAccessed,
      UVMF_INVLPG | UVMF_LOCAL);
  if (result != 0) platform::fail(GuestFailure::kSharedInfo, static_cast<std::uint64_t>(result));
}

const GuestParameters& checked_parameters() {
  const GuestParameters& parameters = report_page.header.parameters;
  if (parameters.vcpus == 0 || parameters.vcpus > kMaxGuestVcpus) {
    platform::fail(GuestFailure::kParameters, parameters.vcpus);
  }
  if (parameters.chunk_iterations == 0) platform::fail(GuestFailure::kParameters, 0);
  return parameters;
}

void start_vcpu(std::uint32_t vcpu, const start_info_t& start_info) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): Xen speaks of addresses
  const auto* pfn_to_mfn = reinterpret_cast<const std::uint64_t*>(start_info.mfn_list);
  vcpu_guest_context_t& context = secondary_context;
  __builtin_memset(&context, 0, sizeof(context));
  context.flags = VGCF_in_kernel;
  context.user_regs.rip = reinterpret_cast<std::uint64_t>(&pv_secondary_entry);
  context.user_regs.rsp = address(secondary_stacks[vcpu] + kStackBytes);
  context.user_regs.rdi = vcpu;
  context.user_regs.cs = FLAT_KERNEL_CS;
  context.user_regs.ss = FLAT_KERNEL_SS;
  context.user_regs.ds = FLAT_KERNEL_DS;
  context.user_regs.es = FLAT_KERNEL_DS;
  context.kernel_ss = FLAT_KERNEL_SS;
  context.kernel_sp = context.user_regs.rsp;
  // Virtual = physical in this image, so the page table's address gives its pfn.
  context.ctrlreg[3] = pfn_to_mfn[start_info.pt_base >> kPageShift] << kPageShift;

  long result = hypercall<__HYPERVISOR_vcpu_op>(VCPUOP_initialise, vcpu, address(&context));
  if (result == 0) result = hypercall<__HYPERVISOR_vcpu_op>(VCPUOP_up, vcpu);
  if (result != 0) platform::fail(GuestFailure::kVcpuStart, static_cast<std::uint64_t>(result));
}

[[noreturn]] void enter_workload(std::uint32_t vcpu) {
  vcpu_register_runstate_memory_area_t area{};
  area.addr.v = &runstate_areas[vcpu];
  const long result =
      hypercall<__HYPERVISOR_vcpu_op>(VCPUOP_register_runstate_memory_area, vcpu, address(&area));
  if (result != 0) platform::fail(GuestFailure::kRunstate, static_cast<std::uint64_t>(result));
  run_workload(vcpu, report_page.header.parameters, report_page.slots[vcpu]);
}

}  // namespace

namespace platform {

// Xen bumps `version` to odd before it changes the record and to even after; the record belongs to
// the pCPU that the vCPU runs on, so a move to another pCPU between the reads shows as a changed
// version too.
std::uint64_t clock_ns(std::uint32_t vcpu) {
  const volatile vcpu_time_info_t& time = shared_info().vcpu_info[vcpu].time;
  for (;;) {
    const std::uint32_t version = time.version;
    compiler_barrier();
    const std::uint64_t tsc_timestamp = time.tsc_timestamp;
    const std::uint64_t system_time_ns = time.system_time;
    const std::uint32_t multiplier = time.tsc_to_system_mul;
    const int shift = time.tsc_shift;  // NOLINT(bugprone-signed-char-misuse,cert-str34-c): signed
    std::uint64_t delta = read_tsc() - tsc_timestamp;
    compiler_barrier();
    if ((version & 1) != 0 || version != time.version) continue;
    delta = shift >= 0 ? delta << shift : delta >> -shift;
    return system_time_ns +
           static_cast<std::uint64_t>((static_cast<unsigned __int128>(delta) * multiplier) >> 32);
  }
}

void add_runstate(std::uint32_t vcpu, GuestReport& report) {
  // Xen writes the area when it puts the vCPU on a pCPU, so an unchanged entry time means an
  // undisturbed copy.
  const volatile vcpu_runstate_info_t& area = runstate_areas[vcpu];
  std::uint64_t entry_ns = 0;
  int state = 0;
  do {
    entry_ns = area.state_entry_time;
    compiler_barrier();
    state = area.state;
    for (unsigned i = 0; i < 4; ++i) report.runstate_ns[i] = area.time[i];
    compiler_barrier();
  } while (entry_ns != area.state_entry_time);
  if (state >= 0 && state < 4 && report.clock_ns > entry_ns) {
    report.runstate_ns[state] += report.clock_ns - entry_ns;
  }
}

void fail(GuestFailure failure, std::uint64_t detail) {
  report_page.header.failure_detail = detail;
  report_page.header.failure = failure;
  compiler_barrier();
  sched_shutdown_t shutdown{.reason = SHUTDOWN_crash};
  hypercall<__HYPERVISOR_sched_op>(SCHEDOP_shutdown, address(&shutdown));
  for (;;) asm volatile("ud2");
}

}  // namespace platform

}  // namespace nemesis

void platform_main(start_info_t* start_info) {
  nemesis::map_shared_info(*start_info);
  const nemesis::GuestParameters& parameters = nemesis::checked_parameters();
  for (std::uint32_t vcpu = 1; vcpu < parameters.vcpus; ++vcpu)
    nemesis::start_vcpu(vcpu, *start_info);
  nemesis::enter_workload(0);
}

void platform_secondary(std::uint32_t vcpu) {
  nemesis::enter_workload(vcpu);
}
