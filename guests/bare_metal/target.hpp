// SPDX-License-Identifier: GPL-2.0-only
//
// A stub domain's target, by Xen's own interfaces for device models: an ioreq server of ours, its
// page and event channels, and the target's memory.
//
// Only a PV guest can do it: in Xen 4.17 a hardware-virtualised one may map no other domain's
// resources, except dom0.
//
// Order of a request: Xen writes it, makes it READY, and sends an event; we make it INPROCESS, put
// the answer into it, make it RESPONSE, and send an event back.
#pragma once

#include <cstdint>

#include "platform_pv.hpp"
#include "platform_xen.hpp"

// clang-format off
#include <xen/memory.h>
#include <xen/hvm/ioreq.h>
#include <xen/hvm/dm_op.h>
// clang-format on

namespace nemesis::platform {

/// Pages of our own address space behind which other domains' are put.
struct Windows {
  static constexpr unsigned kCount = 4;
  alignas(kPageBytes) std::uint8_t requests[kPageBytes];
  alignas(kPageBytes) std::uint8_t frames[kCount][kPageBytes];
};

class Target {
 public:
  Target(std::uint32_t domain, std::uint32_t vcpus, Windows& windows)
      : domain_(static_cast<domid_t>(domain)), vcpus_(vcpus), windows_(windows) {
    if (vcpus == 0 || vcpus > kMaxGuestVcpus) fail(GuestFailure::kParameters, vcpus);
  }

  /// Makes the server, for accesses to these ports and this memory, and begins to be asked.
  void serve(std::uint16_t port, std::uint16_t port_bytes, std::uint64_t memory,
             std::uint64_t memory_bytes) {
    xen_dm_op op{};
    op.op = XEN_DMOP_create_ioreq_server;
    op.u.create_ioreq_server.handle_bufioreq = kNoBufferedRequests;
    must(dm_op(op));
    server_ = op.u.create_ioreq_server.id;
    map_range(XEN_DMOP_IO_RANGE_PORT, port, port_bytes);
    map_range(XEN_DMOP_IO_RANGE_MEMORY, memory, memory_bytes);
    map_requests();
    op = {};
    op.op = XEN_DMOP_set_ioreq_server_state;
    op.u.set_ioreq_server_state.id = server_;
    op.u.set_ioreq_server_state.enabled = 1;
    must(dm_op(op));
    for (std::uint32_t vcpu = 0; vcpu < vcpus_; ++vcpu) {
      evtchn_bind_interdomain_t bind{
          .remote_dom = domain_, .remote_port = request(vcpu).vp_eport, .local_port = 0};
      must(xen::hypercall<__HYPERVISOR_event_channel_op>(EVTCHNOP_bind_interdomain,
                                                         xen::address(&bind)));
      ports_[vcpu] = bind.local_port;
    }
  }

  [[nodiscard]] const std::uint32_t* ports() const { return ports_; }
  [[nodiscard]] std::uint32_t vcpus() const { return vcpus_; }

  /// What the vCPU asks for, now ours; null if nothing.
  [[nodiscard]] ioreq_t* take(std::uint32_t vcpu) {
    ioreq_t& asked = request(vcpu);
    if (asked.state != STATE_IOREQ_READY) return nullptr;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    asked.state = STATE_IOREQ_INPROCESS;
    return &asked;
  }

  /// It is answered.  A target that is gone does not hear of it, and need not.
  void answer(std::uint32_t vcpu) {
    __atomic_thread_fence(__ATOMIC_RELEASE);
    request(vcpu).state = STATE_IORESP_READY;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    evtchn_send_t send{.port = ports_[vcpu]};
    xen::hypercall<__HYPERVISOR_event_channel_op>(EVTCHNOP_send, xen::address(&send));
  }

  /// The target's frame, writable, until kCount others were asked for; null if it has none there.
  [[nodiscard]] std::uint8_t* map(std::uint64_t frame) {
    for (unsigned i = 0; i < Windows::kCount; ++i) {
      if (mapped_[i] && frames_[i] == frame) return windows_.frames[i];
    }
    std::uint8_t* window = windows_.frames[next_];
    const long result = xen::hypercall4<__HYPERVISOR_update_va_mapping_otherdomain>(
        xen::address(window), frame << kPageShift | kPteFlags, UVMF_INVLPG | UVMF_LOCAL, domain_);
    if (result != 0) return nullptr;  // the window has what it had
    mapped_[next_] = true;
    frames_[next_] = frame;
    next_ = (next_ + 1) % Windows::kCount;
    return window;
  }

  /// What is mapped may be elsewhere now.
  void forget() {
    for (bool& mapped : mapped_) mapped = false;
  }

 private:
  // HVM_IOREQSRV_BUFIOREQ_OFF, which Xen's headers show to toolstacks only.
  static constexpr std::uint8_t kNoBufferedRequests = 0;
  static constexpr std::uint64_t kPteFlags = 0x67;  // present, writable, user, accessed, dirty
  static constexpr std::uint64_t kPteFrame = 0x000f'ffff'ffff'f000;

  static void must(long result) {
    if (result != 0) fail(GuestFailure::kTarget, static_cast<std::uint64_t>(result));
  }

  [[nodiscard]] ioreq_t& request(std::uint32_t vcpu) {
    asm volatile("" : : : "memory");  // Xen writes there
    return reinterpret_cast<ioreq_t*>(windows_.requests)[vcpu];
  }

  long dm_op(xen_dm_op& op) {
    xen_dm_op_buf buffer{};
    set_xen_guest_handle(buffer.h, &op);
    buffer.size = sizeof(op);
    return xen::hypercall<__HYPERVISOR_dm_op>(domain_, 1, xen::address(&buffer));
  }

  void map_range(std::uint32_t type, std::uint64_t start, std::uint64_t bytes) {
    xen_dm_op op{};
    op.op = XEN_DMOP_map_io_range_to_ioreq_server;
    op.u.map_io_range_to_ioreq_server.id = server_;
    op.u.map_io_range_to_ioreq_server.type = type;
    op.u.map_io_range_to_ioreq_server.start = start;
    op.u.map_io_range_to_ioreq_server.end = start + bytes - 1;
    must(dm_op(op));
  }

  /// The page of requests is the target's, but has no frame number of its: by machine frame.
  void map_requests() {
    xen_pfn_t frame = 0;
    xen_mem_acquire_resource request{};
    request.domid = domain_;
    request.type = XENMEM_resource_ioreq_server;
    request.id = server_;
    request.nr_frames = 1;
    request.frame = XENMEM_resource_ioreq_server_frame_ioreq(0);
    set_xen_guest_handle(request.frame_list, &frame);
    must(xen::hypercall<__HYPERVISOR_memory_op>(XENMEM_acquire_resource, xen::address(&request)));
    mmu_update_t update{.ptr = entry_of(windows_.requests) | MMU_PT_UPDATE_NO_TRANSLATE,
                        .val = frame << kPageShift | kPteFlags};
    must(xen::hypercall4<__HYPERVISOR_mmu_update>(xen::address(&update), 1, 0, domain_));
    mmuext_op_t flush{};
    flush.cmd = MMUEXT_INVLPG_LOCAL;
    flush.arg1.linear_addr = xen::address(windows_.requests);
    must(xen::hypercall4<__HYPERVISOR_mmuext_op>(xen::address(&flush), 1, 0, DOMID_SELF));
  }

  /// Machine address of the page-table entry of a page of ours.  Our page tables are mapped, at
  /// their pfn, as all that Xen's builder gave us.
  static std::uint64_t entry_of(const void* page) {
    const std::uint64_t address = xen::address(page);
    std::uint64_t table = start_info().pt_base;
    for (unsigned level = 3;; --level) {
      const std::uint64_t index = address >> (kPageShift + 9 * level) & 511;
      // NOLINTNEXTLINE(performance-no-int-to-ptr): virtual = pfn
      const std::uint64_t entry = reinterpret_cast<const std::uint64_t*>(table)[index];
      const std::uint64_t machine = entry & kPteFrame;
      const std::uint64_t next = machine_to_phys_mapping[machine >> kPageShift] << kPageShift;
      if (level == 1) return machine + (address >> kPageShift & 511) * sizeof(std::uint64_t);
      table = next;
    }
  }

  domid_t domain_;
  std::uint32_t vcpus_;
  Windows& windows_;
  ioservid_t server_ = 0;
  std::uint32_t ports_[kMaxGuestVcpus] = {};
  std::uint64_t frames_[Windows::kCount] = {};
  bool mapped_[Windows::kCount] = {};
  unsigned next_ = 0;
};

}  // namespace nemesis::platform
