// SPDX-License-Identifier: GPL-2.0-only
//
// Workload "intruder": asks for what is dom0's to ask, that it be put into a group with dom0, and
// gives up unless it is not permitted; then it burns, and asks again each 100 ms.

// Before any of Xen's headers.
#define __XEN_TOOLS__ 1  // NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)
#include "hypercall.hpp"
#include "worker.hpp"
// clang-format off
#include <xen/errno.h>
#include <xen/domctl.h>
// clang-format on

namespace nemesis {

namespace {

constexpr std::uint64_t kEveryNs = 100'000'000;
constexpr std::uint32_t kRequests[] = {XEN_DOMCTL_SCHEDDOM_add, XEN_DOMCTL_SCHEDDOM_remove,
                                       XEN_DOMCTL_SCHEDDOM_destroy, XEN_DOMCTL_SCHEDDOM_get,
                                       XEN_DOMCTL_SCHEDDOM_set};

void ask() {
  for (const std::uint32_t what : kRequests) {
    xen_domctl_t request{};
    request.cmd = XEN_DOMCTL_scheddom_op;
    request.interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    request.domain = 0;
    request.u.scheddom_op.cmd = what;
    request.u.scheddom_op.member = DOMID_SELF;
    const long result = xen::hypercall<__HYPERVISOR_domctl>(xen::address(&request));
    if (result != -XEN_EPERM) {
      platform::fail(GuestFailure::kPermitted, static_cast<std::uint64_t>(result));
    }
  }
}

}  // namespace

void run_workload(std::uint32_t vcpu, const GuestParameters& parameters, ReportSlot& slot) {
  Worker worker(vcpu, parameters, slot);
  for (;;) {
    if (vcpu == 0) ask();
    worker.work_until(worker.now_ns() + kEveryNs);
  }
}

}  // namespace nemesis
