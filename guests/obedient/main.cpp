// SPDX-License-Identifier: GPL-2.0-only
//
// obedient: a burner that does what `xl reboot` and `xl shutdown` ask of a guest.  The
// toolstack writes a word to the guest's control/shutdown in xenstore; the guest shuts down with
// that reason, and the rest is the toolstack's.  Started by xl, as only that gives it a xenstore.
#include "platform_pv.hpp"
#include "worker.hpp"
// Xen's header wants the fixed-width types before it.
#include <xen/io/xs_wire.h>

namespace nemesis {

namespace {

constexpr char kPath[] = "control/shutdown";
constexpr std::uint64_t kAskEveryNs = 50'000'000;

/// The store page, and one question in it at a time.  Offsets run freely, and wrap in the ring.
class Store {
 public:
  Store() : port_(platform::start_info().store_evtchn) {
    const start_info_t& start = platform::start_info();
    // NOLINTBEGIN(performance-no-int-to-ptr): Xen speaks of addresses
    const auto* pfn_to_mfn = reinterpret_cast<const std::uint64_t*>(start.mfn_list);
    std::uint64_t pfn = 0;
    while (pfn_to_mfn[pfn] != start.store_mfn) ++pfn;
    ring_ = reinterpret_cast<volatile xenstore_domain_interface*>(pfn * kPageBytes);
    // NOLINTEND(performance-no-int-to-ptr)
  }

  void ask() {
    xsd_sockmsg question{};
    question.type = XS_READ;
    question.len = sizeof(kPath);
    put(&question, sizeof(question));
    put(kPath, sizeof(kPath));
    platform::notify(port_);
  }

  /// Whether there is an answer, which is then taken: its first letter, 0 for anything but a word.
  bool answered(char& letter) {
    xsd_sockmsg head{};
    const std::uint32_t there = ring_->rsp_prod - ring_->rsp_cons;
    if (there < sizeof(head)) return false;
    get(0, &head, sizeof(head));
    if (there < sizeof(head) + head.len) return false;
    letter = 0;
    if (head.type == XS_READ && head.len != 0) get(sizeof(head), &letter, 1);
    ring_->rsp_cons = ring_->rsp_cons + static_cast<std::uint32_t>(sizeof(head)) + head.len;
    platform::notify(port_);
    return true;
  }

 private:
  static constexpr std::uint64_t kPageBytes = 4096;

  void put(const void* bytes, std::uint32_t count) {
    const auto* from = static_cast<const char*>(bytes);
    const std::uint32_t at = ring_->req_prod;
    for (std::uint32_t i = 0; i < count; ++i) ring_->req[MASK_XENSTORE_IDX(at + i)] = from[i];
    ring_->req_prod = at + count;
  }

  void get(std::uint32_t offset, void* bytes, std::uint32_t count) const {
    auto* to = static_cast<char*>(bytes);
    const std::uint32_t at = ring_->rsp_cons + offset;
    for (std::uint32_t i = 0; i < count; ++i) to[i] = ring_->rsp[MASK_XENSTORE_IDX(at + i)];
  }

  std::uint32_t port_;
  volatile xenstore_domain_interface* ring_ = nullptr;
};

[[noreturn]] void shut_down(unsigned reason) {
  sched_shutdown request{.reason = reason};
  for (;;) xen::hypercall<__HYPERVISOR_sched_op>(SCHEDOP_shutdown, xen::address(&request));
}

}  // namespace

void run_workload(std::uint32_t vcpu, const GuestParameters& parameters, ReportSlot& slot) {
  Worker worker(vcpu, parameters, slot);
  if (vcpu != 0) {
    for (;;) worker.work();
  }
  Store store;
  for (;;) {
    store.ask();
    char letter = 0;
    do {
      worker.work_until(worker.now_ns() + kAskEveryNs);
    } while (!store.answered(letter));
    if (letter == 'r') shut_down(SHUTDOWN_reboot);
    if (letter == 'p') shut_down(SHUTDOWN_poweroff);
  }
}

}  // namespace nemesis
