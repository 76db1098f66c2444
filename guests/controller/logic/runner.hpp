// SPDX-License-Identifier: GPL-2.0-only
//
// Does what a scenario says and records what it saw.  It never judges: an op that Xen refuses is a
// record with an errno, as good as any other.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "clock.hpp"
#include "hypervisor.hpp"
#include "records.hpp"
#include "result.hpp"
#include "scenario.hpp"

namespace nemesis {

/// t0 is a multiple of this of the raw clock.
inline constexpr std::uint64_t kStartGridNs = 100'000'000;

using ImageSource = std::function<Result<std::vector<std::byte>>(const std::string& name)>;

class Runner {
 public:
  /// Builds every domain of the scenario, paused, and records each.  The arguments must outlive the
  /// result.
  [[nodiscard]] static Result<Runner> create(const Scenario& scenario, const ImageSource& images,
                                             Hypervisor& hypervisor, Clock& clock,
                                             RecordWriter& records);

  /// Fixes t0, runs the timeline to its end, and only then writes what was observed.
  void run();

  /// Of a domain of the scenario, or dom0.
  [[nodiscard]] DomainId id_of(const std::string& name) const;

 private:
  struct Domain {
    std::string name;
    DomainId id;
    std::uint32_t vcpus;
  };

  Runner(const Scenario& scenario, Hypervisor& hypervisor, Clock& clock, RecordWriter& records);

  using Observation = std::variant<OpOutcome, Sample, Error>;

  void do_op(std::size_t index, const TimelineOp& op, std::uint64_t due_ns);
  [[nodiscard]] Status apply(const TimelineOp& op);
  void take_sample(std::size_t index, const std::string& label, std::uint64_t due_ns);
  void observe_guest(const Domain& domain, DomainSample& sample);
  [[nodiscard]] Result<PoolId> pool_of(const std::string& name) const;
  [[nodiscard]] std::string name_of(DomainId id) const;
  void write_observations();
  void start_trace();
  void stop_trace();
  void look_at_trace_clock();
  [[nodiscard]] std::uint64_t since_t0_ns() { return clock_->now_ns() - t0_ns_; }

  const Scenario* scenario_;
  Hypervisor* hypervisor_;
  Clock* clock_;
  RecordWriter* records_;
  std::vector<Domain> domains_;       // dom0 first
  std::vector<std::string> masters_;  // of every group that was ever formed, in order of forming
  std::map<std::string, PoolId> pools_;
  std::vector<Observation> observations_;
  std::vector<TraceClock> trace_clocks_;
  std::vector<TraceBuffer> trace_;
  std::uint64_t t0_ns_ = 0;
  std::uint64_t op_done_ns_ = 0;  // of the last operation, from t0
  std::uint64_t calm_ns_ = 0;     // of the shortest sample so far
};

}  // namespace nemesis
