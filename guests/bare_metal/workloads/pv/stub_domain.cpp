// SPDX-License-Identifier: GPL-2.0-only
//
// Workload "stub_domain": the device model (device_model.hpp) for a toolstack, which tells a stub
// domain no more than its target, in xenstore, and waits there until it says that it serves it.
// What a request costs is cost_ns= on its command line.
#include "device_model.hpp"
#include "store_pv.hpp"

namespace nemesis {

namespace {

using platform::Decimal;
using platform::Store;

constexpr std::uint32_t kBlockBytes = disk::kMaxBlockBytes;

platform::Windows windows;
disk::Store blocks;

std::uint64_t cost_ns() {
  constexpr std::string_view kKey = "cost_ns=";
  const char* word = reinterpret_cast<const char*>(platform::start_info().cmd_line);
  const char* end = word + sizeof(platform::start_info().cmd_line);
  for (const char letter : kKey) {
    if (*word++ != letter) return 0;
  }
  std::uint64_t value = 0;
  std::from_chars(word, end, value);
  return value;
}

/// The target's folder for each of its vCPUs; the names end with NUL.
std::uint32_t vcpus_of(Store& store, std::string_view target) {
  const auto names = store.ask(XS_DIRECTORY, {"/local/domain/", target, "/cpu", Store::kEnd});
  std::uint32_t count = 0;
  for (const char letter : names) count += letter == '\0' ? 1 : 0;
  return count;
}

}  // namespace

void run_workload(std::uint32_t vcpu, const GuestParameters& parameters, ReportSlot& slot) {
  Worker worker(vcpu, parameters, slot);
  Store store = platform::store();
  const auto domain = static_cast<std::uint32_t>(store.number("target"));
  const Decimal name(domain);
  platform::Target target(domain, vcpus_of(store, name.text()), windows);
  target.serve(disk::kPorts, disk::kPortBytes, disk::kMmio, disk::kMmioBytes);
  store.ask(XS_WRITE, {"device-model/", name.text(), "/state", Store::kEnd, "running"});
  emulate(worker, target, kBlockBytes, cost_ns(), blocks);
}

}  // namespace nemesis
