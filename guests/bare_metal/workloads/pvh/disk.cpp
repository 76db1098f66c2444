// SPDX-License-Identifier: GPL-2.0-only
//
// Workload "disk": vCPU 0 asks its disk for something at each multiple of period_ns, plus phase_ns,
// or as soon as it can where that is 0, and burns run_ns of CPU time in between.  Further vCPUs
// burn.
#include "disk_machine.hpp"

namespace nemesis {

namespace {

constexpr std::uint64_t kLookAgainNs = 1'000'000;

disk::Buffers buffers;

}  // namespace

void run_workload(std::uint32_t vcpu, const GuestParameters& parameters, ReportSlot& slot) {
  Worker worker(vcpu, parameters, slot);
  if (vcpu != 0) {
    for (;;) worker.work();
  }
  Machine machine(worker);
  disk::Driver<Machine> driver(machine, buffers, device_page, parameters.seed,
                               parameters.malformed_every);
  for (;;) {
    while (!driver.connected() && !driver.connect()) {
      worker.sleep_until(worker.now_ns() + kLookAgainNs);
    }
    if (parameters.period_ns != 0) worker.sleep_until(next_start(worker.now_ns(), parameters));
    driver.step();
    if (parameters.run_ns != 0) worker.work_for(parameters.run_ns);
  }
}

}  // namespace nemesis
