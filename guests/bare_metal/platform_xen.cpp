// SPDX-License-Identifier: GPL-2.0-only
//
// The platform as any guest of Xen has it.
//
// Events stay masked, so that none is ever delivered; a vCPU that waits for one, or for a time,
// polls by hypercall, which blocks it.
#include "platform_xen.hpp"

extern "C" {
[[noreturn]] void platform_secondary(std::uint32_t vcpu);
}

namespace nemesis {

extern "C" {
[[gnu::section(".report"), gnu::used]] ReportPage report_page = {
    .header = {.magic = kReportMagic,
               .format = kReportFormat,
               .failure = GuestFailure::kNone,
               .failure_detail = 0,
               .parameters = {},
               .vcpus_wanted = 0,
               .reserved = {}},
    .slots = {}};
}

namespace platform {

// The page behind this address becomes Xen's shared_info page.
alignas(kPageBytes) std::uint8_t shared_info_bytes[kPageBytes];
static_assert(sizeof(shared_info_t) <= kPageBytes);

alignas(16) std::uint8_t secondary_stacks[kMaxGuestVcpus][kStackBytes];

namespace {

using xen::address;
using xen::hypercall;

alignas(64) vcpu_runstate_info_t runstate_areas[kMaxGuestVcpus];

shared_info_t& shared_info() {
  return *reinterpret_cast<shared_info_t*>(shared_info_bytes);
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

const GuestParameters& checked_parameters() {
  const GuestParameters& parameters = report_page.header.parameters;
  if (parameters.vcpus == 0 || parameters.vcpus > kMaxGuestVcpus) {
    fail(GuestFailure::kParameters, parameters.vcpus);
  }
  if (parameters.chunk_iterations == 0) fail(GuestFailure::kParameters, 0);
  return parameters;
}

[[noreturn]] void enter_workload(std::uint32_t vcpu) {
  vcpu_register_runstate_memory_area_t area{};
  area.addr.v = &runstate_areas[vcpu];
  const long result =
      hypercall<__HYPERVISOR_vcpu_op>(VCPUOP_register_runstate_memory_area, vcpu, address(&area));
  if (result != 0) fail(GuestFailure::kRunstate, static_cast<std::uint64_t>(result));
  run_workload(vcpu, report_page.header.parameters, report_page.slots[vcpu]);
}

/// Blocks until the port (none: 0) has an event, or the clock reads deadline_ns (never: 0).
void poll(std::uint32_t port, std::uint64_t deadline_ns) {
  evtchn_port_t ports[1] = {port};
  sched_poll_t request{};
  set_xen_guest_handle(request.ports, ports);
  request.nr_ports = port != 0 ? 1 : 0;
  request.timeout = deadline_ns;
  const long result = hypercall<__HYPERVISOR_sched_op>(SCHEDOP_poll, address(&request));
  if (result != 0) fail(GuestFailure::kSleep, static_cast<std::uint64_t>(result));
}

/// Whether there was an event.
bool take_event(std::uint32_t port) {
  const std::uint64_t bit = 1ULL << (port % 64);
  std::uint64_t* word = &shared_info().evtchn_pending[port / 64];
  return (__atomic_fetch_and(word, ~bit, __ATOMIC_SEQ_CST) & bit) != 0;
}

}  // namespace

void run_first(void (*start_vcpu)(std::uint32_t vcpu)) {
  const GuestParameters& parameters = checked_parameters();
  for (std::uint32_t vcpu = 1; vcpu < parameters.vcpus; ++vcpu) start_vcpu(vcpu);
  enter_workload(0);
}

void launch(std::uint32_t vcpu, std::uint64_t context) {
  long result = hypercall<__HYPERVISOR_vcpu_op>(VCPUOP_initialise, vcpu, context);
  if (result == 0) result = hypercall<__HYPERVISOR_vcpu_op>(VCPUOP_up, vcpu);
  if (result != 0) fail(GuestFailure::kVcpuStart, static_cast<std::uint64_t>(result));
}

std::uint64_t stack_of(std::uint32_t vcpu) {
  return address(secondary_stacks[vcpu] + kStackBytes);
}

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

void sleep_until(std::uint64_t deadline_ns) {
  poll(0, deadline_ns);
}

void wait_for(std::uint32_t port) {
  while (!take_event(port)) poll(port, 0);
}

void notify(std::uint32_t port) {
  evtchn_send_t request{.port = port};
  const long result = hypercall<__HYPERVISOR_event_channel_op>(EVTCHNOP_send, address(&request));
  if (result != 0) fail(GuestFailure::kPeer, static_cast<std::uint64_t>(result));
}

std::uint32_t connect_peer() {
  const GuestParameters& parameters = report_page.header.parameters;
  if (parameters.peer_port == 0) fail(GuestFailure::kParameters, 0);
  if (parameters.peer_is_remote == 0) return parameters.peer_port;
  evtchn_bind_interdomain_t request{.remote_dom = static_cast<domid_t>(parameters.peer_domain),
                                    .remote_port = parameters.peer_port,
                                    .local_port = 0};
  const long result =
      hypercall<__HYPERVISOR_event_channel_op>(EVTCHNOP_bind_interdomain, address(&request));
  if (result != 0) fail(GuestFailure::kPeer, static_cast<std::uint64_t>(result));
  return request.local_port;
}

void yield() {
  hypercall<__HYPERVISOR_sched_op>(SCHEDOP_yield, 0);
}

void vcpu_down(std::uint32_t vcpu) {
  hypercall<__HYPERVISOR_vcpu_op>(VCPUOP_down, vcpu);
}

void vcpu_up(std::uint32_t vcpu) {
  const long result = hypercall<__HYPERVISOR_vcpu_op>(VCPUOP_up, vcpu);
  if (result != 0) fail(GuestFailure::kVcpuStart, static_cast<std::uint64_t>(result));
}

std::uint32_t vcpus_wanted() {
  const std::uint32_t wanted = __atomic_load_n(&report_page.header.vcpus_wanted, __ATOMIC_RELAXED);
  const std::uint32_t most = report_page.header.parameters.vcpus;
  return wanted == 0 || wanted > most ? most : wanted;
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

void platform_secondary(std::uint32_t vcpu) {
  nemesis::platform::enter_workload(vcpu);
}
