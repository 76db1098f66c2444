// SPDX-License-Identifier: GPL-2.0-only
#include "xen_hypervisor.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <optional>

namespace nemesis {

namespace {

// What fits in one page: a longer list costs libxencall a fresh buffer, and ten times the time, at
// each sample.  A longer one is taken where there are more domains.
constexpr std::size_t kUsualDomains = XC_PAGE_SIZE / sizeof(xc_domaininfo_t);
constexpr std::uint32_t kMaxGroupDomains = 64;

// xen_domctl_sched_credit{,2}: a weight of 0 leaves it as it is.  (Of a cap, only credit can be
// told so.)
constexpr std::uint16_t kKeepWeight = 0;

// What the example policy calls a guest that is nothing special.
constexpr std::string_view kUsualLabel = "system_u:system_r:domU_t";

const char* scheduler_name(int id) {
  switch (id) {
    case XEN_SCHEDULER_CREDIT:
      return "credit";
    case XEN_SCHEDULER_CREDIT2:
      return "credit2";
    case XEN_SCHEDULER_RTDS:
      return "rtds";
    case XEN_SCHEDULER_ARINC653:
      return "arinc653";
    case XEN_SCHEDULER_NULL:
      return "null";
    default:
      return "unknown";
  }
}

std::optional<int> scheduler_id(std::string_view name) {
  for (const int id : {XEN_SCHEDULER_CREDIT, XEN_SCHEDULER_CREDIT2, XEN_SCHEDULER_RTDS,
                       XEN_SCHEDULER_ARINC653, XEN_SCHEDULER_NULL}) {
    if (name == scheduler_name(id)) return id;
  }
  return std::nullopt;
}

std::string_view state_name(std::uint32_t flags) {
  if ((flags & XEN_DOMINF_dying) != 0) return "dying";
  if ((flags & XEN_DOMINF_shutdown) != 0) {
    const std::uint32_t reason = (flags >> XEN_DOMINF_shutdownshift) & XEN_DOMINF_shutdownmask;
    return reason == SHUTDOWN_crash ? "crashed" : "shutdown";
  }
  if ((flags & XEN_DOMINF_paused) != 0) return "paused";
  if ((flags & XEN_DOMINF_blocked) != 0) return "blocked";
  return (flags & XEN_DOMINF_running) != 0 ? "running" : "runnable";
}

std::string hex(std::span<const unsigned char> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

/// The build id in hex; a Xen linked without one has its changeset instead, or nothing.
std::string xen_build(xc_interface* xch) {
  constexpr std::size_t kMaxIdBytes = 64;
  alignas(xen_build_id_t) unsigned char buffer[sizeof(xen_build_id_t) + kMaxIdBytes] = {};
  auto* id = reinterpret_cast<xen_build_id_t*>(buffer);
  id->len = kMaxIdBytes;
  const int bytes = xc_version(xch, XENVER_build_id, id);
  if (bytes > 0) return hex({id->buf, static_cast<std::size_t>(bytes)});

  xen_changeset_info_t changeset{};
  if (xc_version(xch, XENVER_changeset, &changeset) != 0) return {};
  return changeset;
}

/// Memory that hypercalls may name, zeroed.
template <typename T>
class HypercallArray {
 public:
  HypercallArray(xencall_handle* handle, std::size_t count)
      : handle_(handle), data_(static_cast<T*>(xencall_alloc_buffer(handle, count * sizeof(T)))) {
    if (data_ != nullptr) std::uninitialized_value_construct_n(data_, count);
  }
  HypercallArray(const HypercallArray&) = delete;
  HypercallArray& operator=(const HypercallArray&) = delete;
  ~HypercallArray() {
    if (data_ != nullptr) xencall_free_buffer(handle_, data_);
  }
  [[nodiscard]] T* data() const { return data_; }

 private:
  xencall_handle* handle_;
  T* data_;
};

struct CpuMapFree {
  void operator()(uint8_t* map) const { std::free(map); }  // as xc_cpumap_alloc took it from calloc
};
using CpuMap = std::unique_ptr<uint8_t, CpuMapFree>;

}  // namespace

Result<std::unique_ptr<XenHypervisor>> XenHypervisor::open() {
  std::unique_ptr<XenHypervisor> self(new XenHypervisor);
  self->xch_.reset(xc_interface_open(self->log_.logger(), self->log_.logger(), 0));
  if (!self->xch_) return self->failure("xc_interface_open (not in dom0 of a Xen?)");
  self->call_.reset(xencall_open(self->log_.logger(), 0));
  if (!self->call_) return self->failure("xencall_open");
  self->memory_.reset(xenforeignmemory_open(self->log_.logger(), 0));
  if (!self->memory_) return self->failure("xenforeignmemory_open");
  if (xc_sched_id(self->xch_.get(), &self->scheduler_id_) != 0) return self->failure("xc_sched_id");
  self->infos_.resize(kUsualDomains);
  return self;
}

Error XenHypervisor::failure(const char* call) {
  const int errnum = errno;
  const std::string told = log_.take();
  return Error{errnum, std::string(call) + (told.empty() ? "" : ": " + told)};
}

Status XenHypervisor::outcome(int result, const char* call) {
  if (result == 0) return Done{};
  return failure(call);
}

Result<HostInfo> XenHypervisor::host() {
  const int version = xc_version(xch_.get(), XENVER_version, nullptr);
  xen_extraversion_t extra{};
  xc_physinfo_t physinfo{};
  if (version < 0 || xc_version(xch_.get(), XENVER_extraversion, &extra) != 0)
    return failure("xc_version");
  if (xc_physinfo(xch_.get(), &physinfo) != 0) return failure("xc_physinfo");
  HostInfo host;
  host.xen_version = std::to_string(version >> 16) + "." + std::to_string(version & 0xffff) + extra;
  host.xen_build = xen_build(xch_.get());
  host.scheduler = scheduler_name(scheduler_id_);
  host.pcpus = physinfo.nr_cpus;
  host.cpu_khz = physinfo.cpu_khz;
  host.total_kib = physinfo.total_pages * (XC_PAGE_SIZE / 1024);
  return host;
}

Result<DomainId> XenHypervisor::create(const DomainSpec& spec, std::uint64_t seed,
                                       std::span<const std::byte> image) {
  const GuestParameters guest_parameters{.gap_threshold_ns = spec.gap_threshold_ns,
                                         .chunk_iterations = spec.chunk_iterations,
                                         .seed = seed,
                                         .vcpus = spec.vcpus,
                                         .peer_port = 0,
                                         .peer_domain = 0,
                                         .peer_is_remote = 0,
                                         .period_ns = spec.period_ns,
                                         .run_ns = spec.run_ns,
                                         .phase_ns = spec.phase_ns,
                                         .cost_ns = spec.cost_ns,
                                         .block_bytes = spec.block_bytes,
                                         .malformed_every = spec.malformed_every,
                                         .target_domain = 0,
                                         .target_vcpus = 0};
  const auto label = sid_of(spec);
  if (!label) return label.error();
  const BuildContext context{
      .xch = xch_.get(), .memory = memory_.get(), .log = log_, .label = *label};
  auto built = build_domain(context, spec, guest_parameters, image);
  if (!built) return built.error();

  const DomainId id = built->domain.id();
  Status status = set_parameters(id, spec.cap_percent, spec.weight);
  if (!status) {
    return Error{status.error().errnum,
                 "domain " + spec.name + ": cap_percent " + std::to_string(spec.cap_percent) +
                     ", weight " + std::to_string(spec.weight) + ": " + status.error().what};
  }
  domains_.emplace(id, Domain{std::move(built->report), std::move(built->device),
                              built->report_frame, spec.vcpus, kPool0Id});
  infos_.resize(std::max(infos_.size(), domains_.size() + 1));
  if (spec.affinity) status = set_affinity(id, spec.affinity);
  if (!status) {
    domains_.erase(id);
    return Error{status.error().errnum,
                 "domain " + spec.name + ": affinity: " + status.error().what};
  }
  return built->domain.release();
}

/// Without FLASK there are no SIDs, and a domain may have no label of its own.
Result<std::uint32_t> XenHypervisor::sid_of(const DomainSpec& spec) {
  std::string label(spec.label.empty() ? kUsualLabel : spec.label);
  std::uint32_t sid = 0;
  const auto length = static_cast<std::uint32_t>(label.size());
  if (xc_flask_context_to_sid(xch_.get(), label.data(), length, &sid) == 0) return sid;
  if (errno == ENOSYS && spec.label.empty()) {
    static_cast<void>(log_.take());  // that there is no such hypercall is no trouble
    return std::uint32_t{0};
  }
  return failure(("domain " + spec.name + ": label " + label).c_str());
}

Status XenHypervisor::connect(DomainId asks, DomainId answers) {
  const int port = xc_evtchn_alloc_unbound(xch_.get(), answers, asks);
  if (port < 0) return failure("xc_evtchn_alloc_unbound");
  for (const DomainId id : {asks, answers}) {
    if (id == kDom0Id) continue;  // a program there is told by its arguments
    const Status status = tell_peer(id, static_cast<std::uint32_t>(port), answers);
    if (!status) return status;
  }
  return Done{};
}

Status XenHypervisor::tell_peer(DomainId id, std::uint32_t port, DomainId owner) {
  return change_parameters(id, [&](GuestParameters& parameters) {
    parameters.peer_port = port;
    parameters.peer_domain = owner;
    parameters.peer_is_remote = id == owner ? 0 : 1;
  });
}

Status XenHypervisor::set_target(DomainId stub, DomainId guest) {
  const auto target = domains_.find(guest);
  if (target == domains_.end()) return Error{ESRCH, "no domain " + std::to_string(guest)};
  if (xc_domain_set_target(xch_.get(), stub, guest) != 0) return failure("xc_domain_set_target");
  return change_parameters(stub, [&](GuestParameters& parameters) {
    parameters.target_domain = guest;
    parameters.target_vcpus = target->second.vcpus;
  });
}

template <typename Change>
Status XenHypervisor::change_parameters(DomainId id, Change change) {
  const auto domain = domains_.find(id);
  if (domain == domains_.end()) return Error{ESRCH, "no domain " + std::to_string(id)};
  const auto page = ForeignPage::map(memory_.get(), id, domain->second.report_frame, true);
  if (!page) return page.error();
  change(static_cast<ReportPage*>(page->data())->header.parameters);
  return Done{};
}

Status XenHypervisor::pause(DomainId id) {
  return outcome(xc_domain_pause(xch_.get(), id), "xc_domain_pause");
}

Status XenHypervisor::unpause(DomainId id) {
  return outcome(xc_domain_unpause(xch_.get(), id), "xc_domain_unpause");
}

Status XenHypervisor::want_vcpus(DomainId id, std::uint32_t vcpus) {
  const auto domain = domains_.find(id);
  if (domain == domains_.end()) return Error{ESRCH, "no domain " + std::to_string(id)};
  const auto page = ForeignPage::map(memory_.get(), id, domain->second.report_frame, true);
  if (!page) return page.error();
  ReportHeader& header = static_cast<ReportPage*>(page->data())->header;
  __atomic_store_n(&header.vcpus_wanted, vcpus, __ATOMIC_RELAXED);
  return Done{};
}

Status XenHypervisor::shut_down(DomainId id) {
  return outcome(xc_domain_shutdown(xch_.get(), id, SHUTDOWN_poweroff), "xc_domain_shutdown");
}

Status XenHypervisor::destroy(DomainId id, bool keep) {
  if (!keep) domains_.erase(id);  // our mapping would keep the corpse
  return outcome(xc_domain_destroy(xch_.get(), id), "xc_domain_destroy");
}

int XenHypervisor::scheduler_of(DomainId id) const {
  const auto domain = domains_.find(id);
  if (domain == domains_.end() || domain->second.pool == kPool0Id) return scheduler_id_;
  return pools_.at(domain->second.pool).scheduler_id;
}

Result<SchedParameters> XenHypervisor::parameters(DomainId id) {
  const int scheduler = scheduler_of(id);
  if (scheduler == XEN_SCHEDULER_CREDIT) {
    xen_domctl_sched_credit values{};
    if (xc_sched_credit_domain_get(xch_.get(), id, &values) != 0)
      return failure("xc_sched_credit_domain_get");
    return SchedParameters{values.cap, values.weight};
  }
  if (scheduler == XEN_SCHEDULER_CREDIT2) {
    xen_domctl_sched_credit2 values{};
    if (xc_sched_credit2_domain_get(xch_.get(), id, &values) != 0)
      return failure("xc_sched_credit2_domain_get");
    return SchedParameters{values.cap, values.weight};
  }
  return Error{EOPNOTSUPP,
               "the scheduler has no cap and weight; boot with sched=credit or credit2"};
}

Status XenHypervisor::set_parameters(DomainId id, std::uint16_t cap_percent, std::uint16_t weight) {
  const int scheduler = scheduler_of(id);
  if (scheduler == XEN_SCHEDULER_CREDIT) {
    xen_domctl_sched_credit values{.weight = weight, .cap = cap_percent};
    return outcome(xc_sched_credit_domain_set(xch_.get(), id, &values),
                   "xc_sched_credit_domain_set");
  }
  if (scheduler == XEN_SCHEDULER_CREDIT2) {
    xen_domctl_sched_credit2 values{.weight = weight, .cap = cap_percent};
    return outcome(xc_sched_credit2_domain_set(xch_.get(), id, &values),
                   "xc_sched_credit2_domain_set");
  }
  return Error{EOPNOTSUPP,
               "the scheduler has no cap and weight; boot with sched=credit or credit2"};
}

Status XenHypervisor::set_cap(DomainId id, std::uint16_t cap_percent) {
  return set_parameters(id, cap_percent, kKeepWeight);
}

Status XenHypervisor::set_weight(DomainId id, std::uint16_t weight) {
  const auto now = parameters(id);
  if (!now) return now.error();
  return set_parameters(id, now->cap_percent, weight);
}

Status XenHypervisor::set_affinity(DomainId id, const Affinity& pcpus) {
  const auto domain = domains_.find(id);
  if (domain == domains_.end()) return Error{ESRCH, "no such domain"};
  const int bytes = xc_get_cpumap_size(xch_.get());
  if (bytes <= 0) return failure("xc_get_cpumap_size");
  for (std::uint32_t vcpu = 0; vcpu < domain->second.vcpus; ++vcpu) {
    const CpuMap map(xc_cpumap_alloc(xch_.get()));  // anew: Xen writes back what it made of it
    if (!map) return failure("xc_cpumap_alloc");
    if (!pcpus) {
      std::fill_n(map.get(), bytes, uint8_t{0xff});
    } else {
      for (const std::uint32_t pcpu : *pcpus) {
        if (pcpu >= static_cast<std::uint32_t>(bytes) * 8)
          return Error{EINVAL, "no pCPU " + std::to_string(pcpu)};
        map.get()[pcpu / 8] = static_cast<uint8_t>(map.get()[pcpu / 8] | (1U << (pcpu % 8)));
      }
    }
    const int result = xc_vcpu_setaffinity(xch_.get(), id, static_cast<int>(vcpu), map.get(),
                                           nullptr, XEN_VCPUAFFINITY_HARD);
    if (result != 0) return failure("xc_vcpu_setaffinity");
  }
  return Done{};
}

Status XenHypervisor::join(DomainId master, DomainId member) {
  return outcome(xc_scheddom_add(xch_.get(), master, member), "xc_scheddom_add");
}

Status XenHypervisor::leave(DomainId master, DomainId member) {
  return outcome(xc_scheddom_remove(xch_.get(), master, member), "xc_scheddom_remove");
}

Status XenHypervisor::dissolve(DomainId master) {
  return outcome(xc_scheddom_destroy(xch_.get(), master), "xc_scheddom_destroy");
}

Status XenHypervisor::set_share(DomainId master, DomainId member, std::uint16_t weight) {
  return outcome(xc_scheddom_set(xch_.get(), master, member, weight), "xc_scheddom_set");
}

Result<GroupUsage> XenHypervisor::group(DomainId master) {
  xc_scheddom_info_t info{};
  std::vector<xc_scheddom_entry_t> entries(kMaxGroupDomains);
  std::uint32_t count = kMaxGroupDomains;
  if (xc_scheddom_get(xch_.get(), master, &info, entries.data(), &count) != 0)
    return failure("xc_scheddom_get");
  entries.resize(count);

  GroupUsage found{.master = info.master,
                   .now_ns = info.now_ns,
                   .cap_percent = info.cap,
                   .weight = info.weight,
                   .usage_ns = info.usage_ns,
                   .nr_periods = info.nr_periods,
                   .nr_throttled = info.nr_throttled,
                   .throttled_ns = info.throttled_ns,
                   .domains = {}};
  for (const xc_scheddom_entry_t& entry : entries) {
    found.domains.push_back({.id = entry.domid,
                             .weight = entry.weight,
                             .usage_ns = entry.usage_ns,
                             .nr_periods = entry.nr_periods,
                             .nr_throttled = entry.nr_throttled,
                             .throttled_ns = entry.throttled_ns});
  }
  return found;
}

RawAnswer XenHypervisor::scheddom(DomainId master, DomainId member, const RawScheddom& op) {
  constexpr domid_t kUnwritten = 0xffff;
  const HypercallArray<xen_domctl_t> domctl(call_.get(), 1);
  const HypercallArray<xen_domctl_scheddom_domain_t> entries(call_.get(), std::max(op.room, 1U));
  if (domctl.data() == nullptr || entries.data() == nullptr) return {.errnum = ENOMEM};
  for (std::uint32_t i = 0; i < op.room; ++i) entries.data()[i].domid = kUnwritten;

  xen_domctl_t& call = *domctl.data();
  call.cmd = XEN_DOMCTL_scheddom_op;
  call.interface_version = XEN_DOMCTL_INTERFACE_VERSION;
  call.domain = static_cast<domid_t>(master);
  xen_domctl_scheddom_op& scheddom = call.u.scheddom_op;
  scheddom.cmd = op.cmd;
  scheddom.flags = op.flags;
  scheddom.pad[1] = op.pad;
  scheddom.member = static_cast<domid_t>(member);
  scheddom.weight = op.weight;
  scheddom.nr_domains = op.room;
  scheddom.domains.p = entries.data();

  RawAnswer answer;
  const int result =
      xencall1(call_.get(), __HYPERVISOR_domctl, reinterpret_cast<std::uint64_t>(&call));
  answer.errnum = result == 0 ? 0 : errno;
  answer.count = scheddom.nr_domains;
  for (std::uint32_t i = 0; i < op.room; ++i) {
    answer.written += entries.data()[i].domid == kUnwritten ? 0 : 1;
  }
  return answer;
}

Result<PoolId> XenHypervisor::create_pool(const std::string& scheduler,
                                          const std::vector<std::uint32_t>& pcpus) {
  const std::optional<int> id = scheduler_id(scheduler);
  if (!id) return Error{EINVAL, "no scheduler " + scheduler};
  PoolId pool = XEN_SYSCTL_CPUPOOL_PAR_ANY;
  if (xc_cpupool_create(xch_.get(), &pool, static_cast<std::uint32_t>(*id)) != 0)
    return failure("xc_cpupool_create");
  pools_.emplace(pool, Pool{*id, {}});
  for (const std::uint32_t pcpu : pcpus) {
    const Status status = add_pcpu(pool, pcpu);
    if (status) continue;
    const Status undone = destroy_pool(pool);
    return undone ? status.error() : undone.error();
  }
  return pool;
}

Status XenHypervisor::destroy_pool(PoolId pool) {
  while (!pools_.at(pool).pcpus.empty()) {
    Status status = remove_pcpu(pool, pools_.at(pool).pcpus.back());
    if (!status) return status;
  }
  Status status = outcome(xc_cpupool_destroy(xch_.get(), pool), "xc_cpupool_destroy");
  if (status) pools_.erase(pool);
  return status;
}

Status XenHypervisor::add_pcpu(PoolId pool, std::uint32_t pcpu) {
  const int cpu = static_cast<int>(pcpu);
  Status status = outcome(xc_cpupool_removecpu(xch_.get(), kPool0Id, cpu), "xc_cpupool_removecpu");
  if (!status) return status;
  status = outcome(xc_cpupool_addcpu(xch_.get(), pool, cpu), "xc_cpupool_addcpu");
  if (status) pools_.at(pool).pcpus.push_back(pcpu);
  return status;
}

Status XenHypervisor::remove_pcpu(PoolId pool, std::uint32_t pcpu) {
  const int cpu = static_cast<int>(pcpu);
  Status status = outcome(xc_cpupool_removecpu(xch_.get(), pool, cpu), "xc_cpupool_removecpu");
  if (!status) return status;
  std::erase(pools_.at(pool).pcpus, pcpu);
  return outcome(xc_cpupool_addcpu(xch_.get(), kPool0Id, cpu), "xc_cpupool_addcpu");
}

Status XenHypervisor::move(DomainId id, PoolId pool) {
  Status status = outcome(xc_cpupool_movedomain(xch_.get(), pool, id), "xc_cpupool_movedomain");
  const auto domain = domains_.find(id);
  if (status && domain != domains_.end()) domain->second.pool = pool;
  return status;
}

Status XenHypervisor::start_trace() {
  auto trace = XenTrace::start(xch_.get(), memory_.get());
  if (!trace) return trace.error();
  trace_.emplace(std::move(*trace));
  return Done{};
}

Result<std::vector<TraceBuffer>> XenHypervisor::stop_trace() {
  if (!trace_) return Error{EINVAL, "no trace was started"};
  return trace_->stop();
}

std::uint64_t XenHypervisor::trace_clock() {
  return __builtin_ia32_rdtsc();
}

Result<std::vector<DomainUsage>> XenHypervisor::usage() {
  const int count =
      xc_domain_getinfolist(xch_.get(), 0, static_cast<unsigned>(infos_.size()), infos_.data());
  if (count < 0) return failure("xc_domain_getinfolist");
  std::vector<DomainUsage> found;
  found.reserve(static_cast<std::size_t>(count));
  for (const xc_domaininfo_t& info : std::span(infos_).first(static_cast<std::size_t>(count))) {
    found.push_back({.id = info.domain, .cpu_ns = info.cpu_time, .state = state_name(info.flags)});
  }
  return found;
}

const ReportPage* XenHypervisor::report_page(DomainId id) {
  const auto domain = domains_.find(id);
  return domain == domains_.end() ? nullptr
                                  : static_cast<const ReportPage*>(domain->second.report.data());
}

const DevicePage* XenHypervisor::device_page(DomainId id) {
  const auto domain = domains_.find(id);
  return domain == domains_.end() ? nullptr
                                  : static_cast<const DevicePage*>(domain->second.device.data());
}

}  // namespace nemesis
