// SPDX-License-Identifier: GPL-2.0-only
#include "runner.hpp"

#include <algorithm>
#include <cerrno>
#include <limits>

namespace nemesis {

namespace {

// dom0 may lose its pCPU between reading the clock and reading the usage, for milliseconds; such a
// sample is taken again, and the best of these attempts is kept.
constexpr unsigned kSampleAttempts = 4;
constexpr std::uint64_t kCalmFactor = 2;  // times the shortest span so far is good enough

/// Busy pCPUs make every attempt longer; two in a row of about one length lost no pCPU.
bool alike(std::uint64_t a_ns, std::uint64_t b_ns) {
  return 4 * std::max(a_ns, b_ns) <= 5 * std::min(a_ns, b_ns);
}

/// splitmix64's finaliser: seeds of neighbours have nothing in common.  Never zero, which xorshift
/// could not leave.
std::uint64_t mix(std::uint64_t seed) {
  seed += 0x9e37'79b9'7f4a'7c15ULL;
  seed = (seed ^ (seed >> 30)) * 0xbf58'476d'1ce4'e5b9ULL;
  seed = (seed ^ (seed >> 27)) * 0x94d0'49bb'1331'11ebULL;
  return (seed ^ (seed >> 31)) | 1;
}

}  // namespace

Runner::Runner(const Scenario& scenario, Hypervisor& hypervisor, Clock& clock,
               RecordWriter& records)
    : scenario_(&scenario), hypervisor_(&hypervisor), clock_(&clock), records_(&records) {
  domains_.push_back({std::string(kDom0Name), kDom0Id, 0});
}

Result<Runner> Runner::create(const Scenario& scenario, const ImageSource& images,
                              Hypervisor& hypervisor, Clock& clock, RecordWriter& records) {
  Runner runner(scenario, hypervisor, clock, records);
  std::map<std::string, std::vector<std::byte>> loaded;
  for (const DomainSpec& spec : scenario.domains) {
    auto image = loaded.find(spec.image);
    if (image == loaded.end()) {
      auto bytes = images(spec.image);
      if (!bytes) return bytes.error();
      image = loaded.emplace(spec.image, std::move(*bytes)).first;
    }
    const auto id =
        hypervisor.create(spec, mix(scenario.seed ^ mix(runner.domains_.size())), image->second);
    if (!id) return id.error();
    const auto parameters = hypervisor.parameters(*id);
    if (!parameters) return parameters.error();
    runner.domains_.push_back({spec.name, *id, spec.vcpus});
    if (!spec.peer.empty()) {
      const Status status = hypervisor.connect(*id, runner.id_of(spec.peer));
      if (!status) return status.error();
    }
    if (!spec.stub_of.empty()) {
      const Status status = hypervisor.set_target(*id, runner.id_of(spec.stub_of));
      if (!status) return status.error();
    }
    records.domain(spec, *id, *parameters);
  }
  return runner;
}

void Runner::run() {
  t0_ns_ = (clock_->now_ns() / kStartGridNs + 1) * kStartGridNs;
  records_->scenario(scenario_->name, t0_ns_);
  start_trace();
  std::uint64_t slip_ns = 0;  // what is to come is so much later than the scenario has it
  for (std::size_t i = 0; i < scenario_->timeline.size(); ++i) {
    const TimelineOp& op = scenario_->timeline[i];
    if (op.kind == OpKind::kSample && i > 0) {
      // Operations settle for as long as the scenario says, however long dom0 took for them.
      const TimelineOp& before = scenario_->timeline[i - 1];
      const std::uint64_t settled_ns = op_done_ns_ + (op.t_ns - before.t_ns);
      if (before.kind != OpKind::kSample && settled_ns > op.t_ns + slip_ns) {
        slip_ns = settled_ns - op.t_ns;
      }
    }
    clock_->sleep_until(t0_ns_ + op.t_ns + slip_ns);
    do_op(i, op, op.t_ns + slip_ns);
  }
  stop_trace();
  write_observations();
}

void Runner::start_trace() {
  if (!scenario_->trace) return;
  const Status status = hypervisor_->start_trace();
  if (!status) {
    observations_.push_back(status.error());
    return;
  }
  clock_->sleep_until(t0_ns_);
  look_at_trace_clock();
}

void Runner::stop_trace() {
  if (trace_clocks_.empty()) return;
  look_at_trace_clock();
  auto trace = hypervisor_->stop_trace();
  if (trace) {
    trace_ = std::move(*trace);
  } else {
    observations_.push_back(trace.error());
  }
}

/// Of some tries the one in which dom0 kept its pCPU between the two clocks.
void Runner::look_at_trace_clock() {
  TraceClock best;
  std::uint64_t least_ns = std::numeric_limits<std::uint64_t>::max();
  for (unsigned attempt = 0; attempt < kSampleAttempts; ++attempt) {
    const std::uint64_t before_ns = since_t0_ns();
    const std::uint64_t tsc = hypervisor_->trace_clock();
    const std::uint64_t took_ns = since_t0_ns() - before_ns;
    if (took_ns >= least_ns) continue;
    least_ns = took_ns;
    best = {.t_ns = before_ns + took_ns / 2, .tsc = tsc};
  }
  trace_clocks_.push_back(best);
}

void Runner::write_observations() {
  for (const Observation& observation : observations_) {
    if (const auto* op = std::get_if<OpOutcome>(&observation)) records_->op(*op);
    if (const auto* sample = std::get_if<Sample>(&observation)) records_->sample(*sample);
    if (const auto* error = std::get_if<Error>(&observation)) records_->error(*error);
  }
  observations_.clear();
  for (const TraceClock& clock : trace_clocks_) records_->trace_clock(clock);
  for (const TraceBuffer& buffer : trace_) records_->trace(buffer);
}

void Runner::do_op(std::size_t index, const TimelineOp& op, std::uint64_t due_ns) {
  if (op.kind == OpKind::kEnd) return;
  if (op.kind == OpKind::kSample) {
    take_sample(index, op.label, due_ns);
    return;
  }
  OpOutcome outcome{.index = index,
                    .kind = op.kind,
                    .t_ns = since_t0_ns(),
                    .done_ns = 0,
                    .errnum = 0,
                    .answer = std::nullopt};
  if (op.kind == OpKind::kDomctl) {
    outcome.answer = hypervisor_->scheddom(id_of(op.master),
                                           op.member.empty() ? kDom0Id : id_of(op.member), op.raw);
    outcome.errnum = outcome.answer->errnum;
  } else {
    const Status status = apply(op);
    outcome.errnum = status ? 0 : status.error().errnum;
  }
  outcome.done_ns = op_done_ns_ = since_t0_ns();
  observations_.push_back(outcome);
}

Status Runner::apply(const TimelineOp& op) {
  switch (op.kind) {
    case OpKind::kStart:
    case OpKind::kUnpause:
      return hypervisor_->unpause(id_of(op.domain));
    case OpKind::kPause:
      return hypervisor_->pause(id_of(op.domain));
    case OpKind::kVcpus:
      return hypervisor_->want_vcpus(id_of(op.domain), op.vcpus);
    case OpKind::kShutdown:
      return hypervisor_->shut_down(id_of(op.domain));
    case OpKind::kKill:
      return hypervisor_->destroy(id_of(op.domain), op.keep);
    case OpKind::kJoin: {
      Status status = hypervisor_->join(id_of(op.master), id_of(op.member));
      if (status && std::find(masters_.begin(), masters_.end(), op.master) == masters_.end()) {
        masters_.push_back(op.master);
      }
      return status;
    }
    case OpKind::kLeave:
      return hypervisor_->leave(id_of(op.master), id_of(op.member));
    case OpKind::kDissolve:
      return hypervisor_->dissolve(id_of(op.master));
    case OpKind::kShare:
      return hypervisor_->set_share(id_of(op.master), id_of(op.member), op.weight);
    case OpKind::kCap:
      return hypervisor_->set_cap(id_of(op.domain), op.cap_percent);
    case OpKind::kWeight:
      return hypervisor_->set_weight(id_of(op.domain), op.weight);
    case OpKind::kAffinity:
      return hypervisor_->set_affinity(id_of(op.domain), op.pcpus);
    case OpKind::kPool: {
      const auto pool = hypervisor_->create_pool(op.scheduler, *op.pcpus);
      if (!pool) return pool.error();
      pools_[op.pool] = *pool;
      return Done{};
    }
    case OpKind::kPoolDestroy: {
      const auto pool = pool_of(op.pool);
      if (!pool) return pool.error();
      Status status = hypervisor_->destroy_pool(*pool);
      if (status) pools_.erase(op.pool);
      return status;
    }
    case OpKind::kPoolAdd: {
      const auto pool = pool_of(op.pool);
      return pool ? hypervisor_->add_pcpu(*pool, op.pcpu) : Status(pool.error());
    }
    case OpKind::kPoolRemove: {
      const auto pool = pool_of(op.pool);
      return pool ? hypervisor_->remove_pcpu(*pool, op.pcpu) : Status(pool.error());
    }
    case OpKind::kMove: {
      const auto pool = pool_of(op.pool);
      return pool ? hypervisor_->move(id_of(op.domain), *pool) : Status(pool.error());
    }
    case OpKind::kDomctl:
    case OpKind::kSample:
    case OpKind::kEnd:
      break;
  }
  return Error{EINVAL, "not an op to apply"};
}

void Runner::take_sample(std::size_t index, const std::string& label, std::uint64_t due_ns) {
  Sample sample;
  sample.index = index;
  sample.label = label;
  sample.due_ns = due_ns;
  std::vector<DomainUsage> usage;
  // The guests' own view is compared with what they were charged for, so it is of the same moment.
  std::vector<DomainSample> views;
  std::uint64_t least_ns = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t last_ns = 0;
  for (unsigned attempt = 0; attempt < kSampleAttempts; ++attempt) {
    const std::uint64_t start_ns = since_t0_ns();
    auto seen = hypervisor_->usage();
    const std::uint64_t span_ns = since_t0_ns() - start_ns;
    if (!seen) {
      observations_.push_back(seen.error());
      return;
    }
    std::vector<DomainSample> views_now;
    for (const Domain& domain : domains_) {
      DomainSample view;
      view.name = domain.name;
      view.usage.id = domain.id;
      observe_guest(domain, view);
      views_now.push_back(std::move(view));
    }
    const std::uint64_t whole_ns = since_t0_ns() - start_ns;
    if (whole_ns < least_ns) {
      least_ns = whole_ns;
      sample.t_ns = start_ns;
      sample.span_ns = span_ns;
      usage = std::move(*seen);
      views = std::move(views_now);
    }
    if (least_ns <= kCalmFactor * calm_ns_ || alike(whole_ns, last_ns)) break;
    last_ns = whole_ns;
  }
  if (calm_ns_ == 0 || least_ns < calm_ns_) calm_ns_ = least_ns;

  for (const std::string& master : masters_) {
    auto group = hypervisor_->group(id_of(master));
    if (group) {
      GroupSample entry{.master = name_of(group->master), .usage = std::move(*group), .names = {}};
      for (const GroupDomainUsage& domain : entry.usage.domains)
        entry.names.push_back(name_of(domain.id));
      sample.groups.push_back(std::move(entry));
    } else if (group.error().errnum != ENOENT && group.error().errnum != ESRCH) {
      observations_.push_back(group.error());
    }
  }

  for (DomainSample& entry : views) {
    const auto found = std::find_if(usage.begin(), usage.end(), [&](const DomainUsage& one) {
      return one.id == entry.usage.id;
    });
    if (found == usage.end()) {
      entry.gone = true;
      entry.failure = GuestFailure::kNone;
      entry.guest.clear();
      entry.device.reset();
    } else {
      entry.usage = *found;
    }
    sample.domains.push_back(std::move(entry));
  }
  observations_.push_back(std::move(sample));
}

void Runner::observe_guest(const Domain& domain, DomainSample& sample) {
  const ReportPage* page = hypervisor_->report_page(domain.id);
  if (page == nullptr) return;
  sample.failure = page->header.failure;
  for (std::uint32_t vcpu = 0; vcpu < domain.vcpus; ++vcpu) {
    GuestReport report{};
    if (!read_report(page->slots[vcpu], report)) {
      observations_.push_back(Error{EAGAIN, domain.name + ": vCPU " + std::to_string(vcpu) +
                                                ": its report would not hold still"});
    }
    sample.guest.push_back(report);
  }
  const DevicePage* device = hypervisor_->device_page(domain.id);
  if (device != nullptr && device->format == kDeviceFormat) {
    sample.device = std::make_shared<const DevicePage>(*device);
  }
}

// The parser let no other name pass.
DomainId Runner::id_of(const std::string& name) const {
  if (name == kSelfName) return kSelfId;
  if (name == kXenName) return kXenId;
  if (name == kNobodyName) return kNobodyId;
  return std::find_if(domains_.begin(), domains_.end(),
                      [&](const Domain& domain) { return domain.name == name; })
      ->id;
}

// A pool that could not be made, or is gone, is what the scenario may be after.
Result<PoolId> Runner::pool_of(const std::string& name) const {
  if (name == kPool0Name) return kPool0Id;
  const auto found = pools_.find(name);
  if (found == pools_.end()) return Error{ENOENT, "no pool " + name};
  return found->second;
}

std::string Runner::name_of(DomainId id) const {
  const auto found = std::find_if(domains_.begin(), domains_.end(),
                                  [&](const Domain& domain) { return domain.id == id; });
  return found == domains_.end() ? std::string("d").append(std::to_string(id)) : found->name;
}

}  // namespace nemesis
