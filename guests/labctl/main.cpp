// SPDX-License-Identifier: GPL-2.0-only
//
// The lab's wires for scripts in dom0: what came in by fw_cfg, records out by port 0xe9, the end.
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <span>
#include <string>
#include <string_view>

#include "fw_cfg.hpp"
#include "port_io.hpp"
#include "step.hpp"

namespace nemesis {

namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;
constexpr std::string_view kHelp =
    "labctl read NAME            the fw_cfg file NAME, to stdout; 1: there is none\n"
    "labctl say TEXT             TEXT and a newline out of port 0xe9\n"
    "labctl run NAME COMMAND...  run it; what it said and its status is a record\n"
    "labctl exit CODE            end the machine\n";

int fail(const Error& error) {
  std::cerr << "labctl: " << error.what << "\n";
  return kFailed;
}

int read_file(PortIo ports, std::string_view name) {
  FwCfgPorts device(ports);
  auto fw_cfg = FwCfg::create(device);
  if (!fw_cfg) return fail(fw_cfg.error());
  const auto bytes = fw_cfg->read(name);
  if (!bytes) return fail(bytes.error());
  std::fwrite(bytes->data(), 1, bytes->size(), stdout);
  return std::fflush(stdout) == 0 ? 0 : kFailed;
}

int run(PortIo ports, const std::string& name, std::span<char* const> command) {
  const auto step = run_step(command);
  if (!step) return fail(step.error());
  DebugconSink(ports).write(step_record(name, *step));
  return step->status;
}

int act(PortIo ports, std::span<char* const> words) {
  const std::string_view what = words.size() > 1 ? words[1] : "";
  if (what == "read" && words.size() == 3) return read_file(ports, words[2]);
  if (what == "run" && words.size() > 3) return run(ports, words[2], words.subspan(3));
  if (what == "say" && words.size() == 3) {
    DebugconSink(ports).write(std::string(words[2]) + "\n");
    return 0;
  }
  if (what == "exit" && words.size() == 3) {
    exit_machine(ports, static_cast<std::uint8_t>(std::strtoul(words[2], nullptr, 10)));
  }
  std::cerr << kHelp;
  return kUsage;
}

}  // namespace

}  // namespace nemesis

int main(int argc, char** argv) {
  using namespace nemesis;
  const auto ports = PortIo::create();
  if (!ports) return fail(ports.error());
  return act(*ports, std::span<char* const>(argv, static_cast<std::size_t>(argc)));
}
