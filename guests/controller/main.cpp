// SPDX-License-Identifier: GPL-2.0-only
//
// The controller: /init of dom0, and all that runs there.
//
// It makes ready, says so, waits for a scenario (a checkpoint is taken while it waits), does what
// the scenario says, and ends the machine.  As process 1 it must not return: every way out goes by
// the exit port, and should it crash, the kernel panics and the harness sees a crash.
#include <malloc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "clock.hpp"
#include "fw_cfg.hpp"
#include "port_io.hpp"
#include "program.hpp"
#include "records.hpp"
#include "runner.hpp"
#include "scenario.hpp"
#include "xen_hypervisor.hpp"

namespace nemesis {

namespace {

constexpr std::uint8_t kRanToItsEnd = 0;
constexpr std::uint8_t kGaveUp = 1;

struct Mount {
  const char* type;
  const char* target;
};
constexpr Mount kMounts[] = {
    {"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"xenfs", "/proc/xen"}};

Status mount_file_systems() {
  for (const Mount& one : kMounts) {
    if (mkdir(one.target, 0755) != 0 && errno != EEXIST) {
      return Error{errno, std::string("mkdir ") + one.target};
    }
    if (mount(one.type, one.target, one.type, 0, nullptr) != 0 && errno != EBUSY) {
      return Error{errno, std::string("mount ") + one.type + " at " + one.target +
                              "; missing in the kernel's configuration?"};
    }
  }
  return Done{};
}

// What is observed is kept until the timeline has ended.  A page touched for the first time is a
// fault, in dom0 and in Xen: while all pCPUs are busy, time in which dom0 takes its pCPU from
// whoever is measured.  So the pages are there before.
Status keep_memory() {
  constexpr int kHeapBytes = 4 << 20;
  if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) return Error{errno, "mlockall"};
  mallopt(M_TRIM_THRESHOLD, 2 * kHeapBytes);
  mallopt(M_MMAP_THRESHOLD, 2 * kHeapBytes);
  void* heap = std::malloc(kHeapBytes);
  if (heap == nullptr) return Error{ENOMEM, "the controller's heap"};
  std::free(heap);
  return Done{};
}

// Where the lab stops the machine for a checkpoint, by a breakpoint: at an instruction, so at the
// same instant of virtual time whenever it is made.  The linker puts it at an address that nothing
// else in the machine has (CMakeLists.txt; CHECKPOINT_ADDRESS in harness/schedlab/checkpoint.py).
[[gnu::noinline, gnu::section(".checkpoint")]] void checkpoint_here() {
  asm volatile("nop");
}

/// The program's words, with the domain that answers it and its port.  That domain has not run yet.
Result<std::vector<std::string>> program_words(const Program& program, const Runner& runner,
                                               Hypervisor& hypervisor) {
  std::vector<std::string> words = program.words;
  if (program.echo.empty()) return words;
  const DomainId echo = runner.id_of(program.echo);
  if (Status status = hypervisor.connect(kDom0Id, echo); !status) return status.error();
  const ReportPage* page = hypervisor.report_page(echo);
  if (page == nullptr) return Error{ESRCH, "the domain that is to answer is gone"};
  words.push_back("--echo=" + std::to_string(echo) + ":" +
                  std::to_string(page->header.parameters.peer_port));
  return words;
}

Status control(FwCfgDevice& device, RecordWriter& records) {
  if (Status status = mount_file_systems(); !status) return status;
  prctl(PR_SET_TIMERSLACK, 1UL);
  if (Status status = keep_memory(); !status) return status;

  SystemClock clock;
  auto fw_cfg = FwCfg::create(device);
  if (!fw_cfg) return fw_cfg.error();
  auto hypervisor = XenHypervisor::open();
  if (!hypervisor) return hypervisor.error();
  const auto host = (*hypervisor)->host();
  if (!host) return host.error();
  records.hello(*host);
  records.ready(clock.now_ns());
  checkpoint_here();

  const auto text = wait_for_scenario(*fw_cfg, clock);
  if (!text) return text.error();
  const auto scenario = parse_scenario(*text);
  if (!scenario) return scenario.error();
  const ImageSource images = [&](const std::string& name) { return read_image(*fw_cfg, name); };
  auto runner = Runner::create(*scenario, images, **hypervisor, clock, records);
  if (!runner) return runner.error();
  std::vector<std::string> words;
  if (scenario->program) {
    auto ready = program_words(*scenario->program, *runner, **hypervisor);
    if (!ready) return ready.error();
    words = std::move(*ready);
  }
  runner->run();
  if (words.empty()) return Done{};
  const auto outcome = run_program(words);
  if (!outcome) return outcome.error();
  records.program(outcome->status, outcome->output);
  return Done{};
}

}  // namespace

}  // namespace nemesis

int main() {
  using namespace nemesis;
  const auto ports = PortIo::create();
  if (!ports) return 1;  // no way to say so: the kernel's panic about its lost init must do
  DebugconSink sink(*ports);
  FwCfgPorts device(*ports);
  RecordWriter records(sink);
  const Status status = control(device, records);
  if (!status) records.error(status.error());
  records.end();
  exit_machine(*ports, status ? kRanToItsEnd : kGaveUp);
}
