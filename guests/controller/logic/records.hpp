// SPDX-License-Identifier: GPL-2.0-only
//
// The records: raw observations, one JSON object a line, key "r" first.  Measured here, judged
// elsewhere. All integers are exact; times are ns.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hypervisor.hpp"

namespace nemesis {

inline constexpr int kRecordFormat = 2;

/// Where lines go.
class LineSink {
 public:
  LineSink() = default;
  LineSink(const LineSink&) = delete;
  LineSink& operator=(const LineSink&) = delete;
  virtual ~LineSink() = default;

  /// line ends in a newline.
  virtual void write(std::string_view line) = 0;
};

struct DomainSample {
  std::string name;
  DomainUsage usage;
  bool gone = false;  ///< Xen knows it no longer: usage means nothing
  GuestFailure failure = GuestFailure::kNone;
  std::vector<GuestReport> guest;  ///< a vCPU each
  /// Of one that has, or is, a device.  Not inline: it is a page, and most domains have none.
  std::shared_ptr<const DevicePage> device = nullptr;
};

struct GroupSample {
  std::string master;
  GroupUsage usage;
  std::vector<std::string> names;  ///< of usage.domains, in their order
};

struct Sample {
  std::size_t index = 0;
  std::string label;
  std::uint64_t due_ns = 0;   ///< when it was to be taken, from t0
  std::uint64_t t_ns = 0;     ///< just before the hypercall, from t0
  std::uint64_t span_ns = 0;  ///< the hypercall's duration
  std::vector<DomainSample> domains;
  std::vector<GroupSample> groups;
};

struct OpOutcome {
  std::size_t index = 0;
  OpKind kind = OpKind::kEnd;
  std::uint64_t t_ns = 0;           ///< from t0
  std::uint64_t done_ns = 0;        ///< from t0
  int errnum = 0;                   ///< 0: it worked
  std::optional<RawAnswer> answer;  ///< of a domctl
};

class RecordWriter {
 public:
  explicit RecordWriter(LineSink& sink) : sink_(sink) {}

  void hello(const HostInfo& host);
  void ready(std::uint64_t t_ns);
  void domain(const DomainSpec& spec, DomainId id, const SchedParameters& parameters);
  void scenario(std::string_view name, std::uint64_t t0_ns);
  void op(const OpOutcome& op);
  void sample(const Sample& sample);
  void trace_clock(const TraceClock& clock);
  /// Some lines, as the bytes are many.
  void trace(const TraceBuffer& buffer);
  void program(int status, const std::string& output);
  void error(const Error& error);
  void end();

  /// Errors written so far.
  [[nodiscard]] std::uint64_t errors() const { return errors_; }

 private:
  LineSink& sink_;
  std::uint64_t errors_ = 0;
};

/// "EBUSY" for EBUSY; "E<number>" where libc knows no name.
[[nodiscard]] std::string errno_symbol(int errnum);

}  // namespace nemesis
