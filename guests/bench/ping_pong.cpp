// SPDX-License-Identifier: GPL-2.0-only
//
// dom0 notifies a domain by event channel and sleeps until it answers: where both share a pCPU that
// is two wake-ups and two switches, with dom0's kernel in between.
#include <memory>

#include "bench.hpp"

extern "C" {
#include <xenevtchn.h>
}

namespace nemesis::bench {

namespace {

struct EvtchnClose {
  void operator()(xenevtchn_handle* handle) const { xenevtchn_close(handle); }
};
using EvtchnHandle = std::unique_ptr<xenevtchn_handle, EvtchnClose>;

int round_trip(xenevtchn_handle* handle, evtchn_port_t port) {
  if (xenevtchn_notify(handle, port) != 0) return -1;
  const xenevtchn_port_or_error_t pending = xenevtchn_pending(handle);
  if (pending < 0) return -1;
  return xenevtchn_unmask(handle, static_cast<evtchn_port_t>(pending));
}

void run(benchmark::State& state, std::uint32_t domid, std::uint32_t remote) {
  const EvtchnHandle handle(xenevtchn_open(nullptr, 0));
  const xenevtchn_port_or_error_t port =
      handle ? xenevtchn_bind_interdomain(handle.get(), domid, remote) : -1;
  if (port < 0) {
    state.SkipWithError("cannot bind to the one that answers");
    return;
  }
  const auto own = static_cast<evtchn_port_t>(port);
  // Who binds a port finds it pending.
  const xenevtchn_port_or_error_t first = xenevtchn_pending(handle.get());
  if (first >= 0) xenevtchn_unmask(handle.get(), static_cast<evtchn_port_t>(first));
  for ([[maybe_unused]] auto iteration : state) {
    if (!timed(state, [&] { return round_trip(handle.get(), own); })) break;
  }
}

}  // namespace

void register_ping_pong(std::uint32_t domid, std::uint32_t port) {
  benchmark::RegisterBenchmark("ping_pong",
                               [=](benchmark::State& state) { run(state, domid, port); })
      ->UseManualTime()
      ->Iterations(kIterations);
}

}  // namespace nemesis::bench
