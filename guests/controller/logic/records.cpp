// SPDX-License-Identifier: GPL-2.0-only
#include "records.hpp"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

namespace nemesis {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kTraceLineBytes = 49'152;  // a multiple of 3: no padding inside

void write(LineSink& sink, const Json& record) {
  // Bytes that are no UTF-8 (from a hypervisor's string) are replaced, never thrown about.
  sink.write(record.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n');
}

Json errno_json(int errnum) {
  return errnum == 0 ? Json(0) : Json(errno_symbol(errnum));
}

Json to_json(const GuestReport& report) {
  return {{"work", report.work},
          {"clock_ns", report.clock_ns},
          {"ran_ns", report.ran_ns},
          {"slices", report.slices},
          {"gap_ns", report.gap_ns},
          {"longest_gap_ns", report.longest_gap_ns},
          {"idle_ns", report.idle_ns},
          {"wakes", report.wakes},
          {"late_ns", report.late_ns},
          {"longest_late_ns", report.longest_late_ns},
          {"runstate",
           {{"running_ns", report.runstate_ns[0]},
            {"runnable_ns", report.runstate_ns[1]},
            {"blocked_ns", report.runstate_ns[2]},
            {"offline_ns", report.runstate_ns[3]}}}};
}

/// The buckets that have something: where each ends, and how many there are in it.
Json to_json(const std::uint32_t (&histogram)[kLatencyBuckets]) {
  Json json = Json::array();
  for (std::size_t i = 0; i < kLatencyBuckets; ++i) {
    if (histogram[i] != 0) json.push_back({bucket_end_ns(i), histogram[i]});
  }
  return json;
}

Json to_json(const DevicePage& device) {
  const DeviceCounts& counts = device.counts;
  return {{"started", counts.started},
          {"written", counts.written},
          {"verified", counts.verified},
          {"corrupt", counts.corrupt},
          {"lost", counts.lost},
          {"refused", counts.refused},
          {"wrong", counts.wrong},
          {"unanswered", counts.unanswered},
          {"connected", counts.connected},
          {"clock_wrong", counts.clock_wrong},
          {"waited_ns", counts.waited_ns},
          {"worst_ns", counts.worst_ns},
          {"accesses", counts.accesses},
          {"served", counts.served},
          {"rejected", counts.rejected},
          {"latency", to_json(device.latency)},
          {"clock_latency", to_json(device.clock_latency)}};
}

Json to_json(const DomainSample& domain) {
  Json json = {{"name", domain.name}, {"domid", domain.usage.id}};
  if (domain.gone) {
    json["cpu_ns"] = nullptr;
    json["state"] = "gone";
  } else {
    json["cpu_ns"] = domain.usage.cpu_ns;
    json["state"] = domain.usage.state;
  }
  if (domain.failure != GuestFailure::kNone) {
    json["guest_failure"] = static_cast<std::uint32_t>(domain.failure);
  }
  json["guest"] = Json::array();
  for (const GuestReport& report : domain.guest) json["guest"].push_back(to_json(report));
  if (domain.device) json["device"] = to_json(*domain.device);
  return json;
}

Json to_json(const GroupSample& group) {
  Json json = {{"master", group.master},
               {"now_ns", group.usage.now_ns},
               {"cap_percent", group.usage.cap_percent},
               {"weight", group.usage.weight},
               {"usage_ns", group.usage.usage_ns},
               {"nr_periods", group.usage.nr_periods},
               {"nr_throttled", group.usage.nr_throttled},
               {"throttled_ns", group.usage.throttled_ns},
               {"domains", Json::array()}};
  for (std::size_t i = 0; i < group.usage.domains.size(); ++i) {
    const GroupDomainUsage& domain = group.usage.domains[i];
    json["domains"].push_back({{"name", group.names[i]},
                               {"domid", domain.id},
                               {"weight", domain.weight},
                               {"usage_ns", domain.usage_ns},
                               {"nr_throttled", domain.nr_throttled},
                               {"throttled_ns", domain.throttled_ns},
                               {"nr_periods", domain.nr_periods}});
  }
  return json;
}

}  // namespace

void RecordWriter::hello(const HostInfo& host) {
  write(sink_, {{"r", "hello"},
                {"format", kRecordFormat},
                {"xen_version", host.xen_version},
                {"xen_build", host.xen_build},
                {"scheduler", host.scheduler},
                {"pcpus", host.pcpus},
                {"cpu_khz", host.cpu_khz},
                {"total_kib", host.total_kib}});
}

void RecordWriter::ready(std::uint64_t t_ns) {
  write(sink_, {{"r", "ready"}, {"t_ns", t_ns}});
}

void RecordWriter::domain(const DomainSpec& spec, DomainId id, const SchedParameters& parameters) {
  write(sink_, {{"r", "domain"},
                {"name", spec.name},
                {"domid", id},
                {"image", spec.image},
                {"vcpus", spec.vcpus},
                {"cap_percent", parameters.cap_percent},
                {"weight", parameters.weight}});
}

void RecordWriter::scenario(std::string_view name, std::uint64_t t0_ns) {
  write(sink_, {{"r", "scenario"}, {"name", name}, {"t0_ns", t0_ns}});
}

void RecordWriter::op(const OpOutcome& op) {
  Json json = {{"r", "op"},       {"i", op.index},         {"op", name_of(op.kind)},
               {"t_ns", op.t_ns}, {"done_ns", op.done_ns}, {"errno", errno_json(op.errnum)}};
  if (op.answer) {
    json["count"] = op.answer->count;
    json["written"] = op.answer->written;
  }
  write(sink_, json);
}

void RecordWriter::sample(const Sample& sample) {
  Json json = {{"r", "sample"},
               {"i", sample.index},
               {"label", sample.label},
               {"due_ns", sample.due_ns},
               {"t_ns", sample.t_ns},
               {"span_ns", sample.span_ns},
               {"domains", Json::array()},
               {"groups", Json::array()}};
  for (const DomainSample& entry : sample.domains) json["domains"].push_back(to_json(entry));
  for (const GroupSample& entry : sample.groups) json["groups"].push_back(to_json(entry));
  write(sink_, json);
}

void RecordWriter::trace_clock(const TraceClock& clock) {
  write(sink_, {{"r", "trace_clock"}, {"t_ns", clock.t_ns}, {"tsc", clock.tsc}});
}

void RecordWriter::trace(const TraceBuffer& buffer) {
  std::span<const std::byte> left = buffer.records;
  do {
    const auto part = left.first(std::min(left.size(), kTraceLineBytes));
    write(sink_, {{"r", "trace"}, {"pcpu", buffer.pcpu}, {"data", base64(part)}});
    left = left.subspan(part.size());
  } while (!left.empty());
}

void RecordWriter::program(int status, const std::string& output) {
  write(sink_, {{"r", "program"}, {"status", status}, {"output", output}});
}

void RecordWriter::error(const Error& error) {
  ++errors_;
  write(sink_, {{"r", "error"}, {"what", error.what}, {"errno", errno_json(error.errnum)}});
}

void RecordWriter::end() {
  write(sink_, {{"r", "end"}, {"errors", errors_}});
}

std::string errno_symbol(int errnum) {
  const char* name = strerrorname_np(errnum);
  return name != nullptr ? name : std::string("E").append(std::to_string(errnum));
}

}  // namespace nemesis
