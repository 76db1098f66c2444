// SPDX-License-Identifier: GPL-2.0-only
//
// What a workload may ask of the guest it runs in.  One kind of guest is one entry_<kind>.S and one
// platform_<kind>.cpp behind this page; a workload knows only this page.
//
// Course of a guest: the entry sets a stack and calls platform_main on vCPU 0, which prepares the
// machine, checks the parameters, brings up the other vCPUs and ends in run_workload, as each of
// them does.
#pragma once

#include <cstdint>

#include "nemesis/report_page.hpp"

namespace nemesis {

/// First page of the image, shared with the controller.
extern "C" ReportPage report_page;  // NOLINT(bugprone-dynamic-static-initializers)

namespace platform {

/// The vCPU's own clock: Xen system time, ns.  vcpu must be the caller.
[[nodiscard]] std::uint64_t clock_ns(std::uint32_t vcpu);

/// Copies the vCPU's runstate times into report.runstate_ns, the current state's brought forward to
/// report.clock_ns. vcpu must be the caller.
void add_runstate(std::uint32_t vcpu, GuestReport& report);

/// Blocks until the clock reads deadline_ns.
void sleep_until(std::uint64_t deadline_ns);

/// Blocks until there is an event on the port, and takes it.
void wait_for(std::uint32_t port);

/// Sends an event.
void notify(std::uint32_t port);

/// The port that leads to the peer; binds it first, where it is the other's to open.
[[nodiscard]] std::uint32_t connect_peer();

/// Lets others go first.
void yield();

/// Takes the caller down, until somebody brings it up; it goes on after this.
void vcpu_down(std::uint32_t vcpu);

/// Brings up one that is down.
void vcpu_up(std::uint32_t vcpu);

/// How many vCPUs the controller wants up: 1 at least.
[[nodiscard]] std::uint32_t vcpus_wanted();

/// Leaves the reason in the report page and shuts the domain down as crashed.
[[noreturn]] void fail(GuestFailure failure, std::uint64_t detail);

}  // namespace platform

/// The workload: one source file in workloads/ defines it; called once on every vCPU.
[[noreturn]] void run_workload(std::uint32_t vcpu, const GuestParameters& parameters,
                               ReportSlot& slot);

}  // namespace nemesis
