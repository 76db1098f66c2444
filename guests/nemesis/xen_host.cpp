// SPDX-License-Identifier: GPL-2.0-only
#include "xen_host.hpp"

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>
#include <system_error>
#include <thread>

namespace nemesis {

namespace {

constexpr unsigned kAtOnce = 256;
// Where libxl keeps whose group a domain is in (libxl_scheddom.c).
std::string note_path(DomainId id) {
  return "/libxl/" + std::to_string(id) + "/scheduling-domain";
}

std::string scheduler_name(int id) {
  switch (id) {
    case XEN_SCHEDULER_CREDIT:
      return "credit";
    case XEN_SCHEDULER_CREDIT2:
      return "credit2";
    case XEN_SCHEDULER_ARINC653:
      return "arinc653";
    case XEN_SCHEDULER_RTDS:
      return "rtds";
    case XEN_SCHEDULER_NULL:
      return "null";
    default:
      return "scheduler " + std::to_string(id);
  }
}

std::string why(int errnum) {
  return std::generic_category().message(errnum);
}

Counters counters_of(const auto& from) {
  return {.usage_ns = from.usage_ns,
          .nr_periods = from.nr_periods,
          .nr_throttled = from.nr_throttled,
          .throttled_ns = from.throttled_ns};
}

}  // namespace

Result<std::unique_ptr<Host>> XenHost::open() {
  std::unique_ptr<XenHost> self(new XenHost);
  self->xch_.reset(xc_interface_open(self->log_.logger(), self->log_.logger(), 0));
  if (!self->xch_) {
    const int errnum = errno;
    const bool denied = errnum == EACCES || errnum == EPERM;
    return Error{errnum, denied ? "Only root may talk to the hypervisor (" + why(errnum) + ")."
                                : "There is no hypervisor to talk to (" + why(errnum) +
                                      "): nemesis runs in dom0 of a Xen host."};
  }
  self->store_.reset(xs_open(0));
  return std::unique_ptr<Host>(std::move(self));
}

Status XenHost::outcome(int result, const char* call) {
  if (result == 0) return Done{};
  const int errnum = errno;
  const std::string told = log_.take();
  return Error{errnum, std::string(call) + (told.empty() ? "" : ": " + told)};
}

std::string XenHost::xen_version() {
  const int version = xc_version(xch_.get(), XENVER_version, nullptr);
  xen_extraversion_t extra{};
  if (version < 0 || xc_version(xch_.get(), XENVER_extraversion, &extra) < 0)
    return "of unknown version";
  return std::to_string(version >> 16) + "." + std::to_string(version & 0xffff) + extra;
}

bool XenHost::interface_matches() {
  // Any domctl of old: where the version differs, all are refused alike.
  xc_vcpuinfo_t info{};
  const bool refused = xc_vcpu_getinfo(xch_.get(), kDom0Id, 0, &info) != 0 && errno == EACCES;
  (void)log_.take();
  return !refused;
}

std::optional<std::string> XenHost::read(const std::string& path) const {
  unsigned length = 0;
  if (!store_) return std::nullopt;
  const std::unique_ptr<void, decltype(&std::free)> bytes(
      xs_read(store_.get(), XBT_NULL, path.c_str(), &length), &std::free);
  if (!bytes) return std::nullopt;
  return std::string(static_cast<const char*>(bytes.get()), length);
}

Result<int> XenHost::scheduler_of_pool(std::uint32_t pool) {
  xc_cpupoolinfo_t* info = xc_cpupool_getinfo(xch_.get(), pool);
  if (info == nullptr) return Error{errno, "xc_cpupool_getinfo"};
  const int id = static_cast<int>(info->sched_id);
  xc_cpupool_infofree(xch_.get(), info);
  return id;
}

Result<std::vector<Domain>> XenHost::domains() {
  std::vector<Domain> found;
  std::map<std::uint32_t, std::string> schedulers;
  std::vector<xc_domaininfo_t> infos(kAtOnce);
  for (DomainId first = 0;;) {
    const int count = xc_domain_getinfolist(xch_.get(), first, kAtOnce, infos.data());
    if (count < 0) {
      const int errnum = errno;
      (void)log_.take();
      if (errnum == EACCES && !interface_matches()) {
        return Error{errnum, "This nemesis was built for another version of Xen than the " +
                                 xen_version() + " that runs here; use that one's."};
      }
      return Error{errnum,
                   "The domains cannot be listed (" + why(errnum) + "): root in dom0 may do that."};
    }
    for (const xc_domaininfo_t& info : std::span(infos).first(static_cast<std::size_t>(count))) {
      const std::string path = "/local/domain/" + std::to_string(info.domain);
      Domain one{.id = info.domain,
                 .name = read(path + "/name").value_or(info.domain == kDom0Id ? "Domain-0" : ""),
                 .stub_of = std::nullopt,
                 .pool = info.cpupool,
                 .scheduler = "",
                 .dying = (info.flags & XEN_DOMINF_dying) != 0};
      if (const auto target = read(path + "/target")) {
        DomainId guest = 0;
        const auto [end, error] =
            std::from_chars(target->data(), target->data() + target->size(), guest);
        if (error == std::errc() && end == target->data() + target->size()) one.stub_of = guest;
      }
      if (!schedulers.contains(one.pool)) {
        const auto id = scheduler_of_pool(one.pool);
        schedulers[one.pool] = id ? scheduler_name(*id) : "";
      }
      one.scheduler = schedulers[one.pool];
      found.push_back(std::move(one));
    }
    if (static_cast<unsigned>(count) < kAtOnce) return found;
    first = found.back().id + 1;
  }
}

Result<Group> XenHost::group(DomainId any) {
  xc_scheddom_info_t info{};
  std::vector<xc_scheddom_entry_t> entries(kAtOnce);
  auto count = static_cast<std::uint32_t>(entries.size());
  // There may be more of them each time.
  while (xc_scheddom_get(xch_.get(), any, &info, entries.data(), &count) != 0) {
    if (errno != ENOBUFS) return outcome(-1, "xc_scheddom_get").error();
    entries.resize(count);
  }
  Group found{.master = info.master,
              .cap_percent = info.cap,
              .weight = info.weight,
              .now_ns = info.now_ns,
              .since_made = counters_of(info),
              .domains = {}};
  for (const xc_scheddom_entry_t& entry : std::span(entries).first(count)) {
    found.domains.push_back(
        {.id = entry.domid, .weight = entry.weight, .since_joined = counters_of(entry)});
  }
  return found;
}

Result<std::uint32_t> XenHost::cap(DomainId id) {
  xc_domaininfo_t info{};
  if (xc_domain_getinfolist(xch_.get(), id, 1, &info) != 1 || info.domain != id)
    return Error{ESRCH, "There is no domain " + std::to_string(id) + "."};
  const auto scheduler = scheduler_of_pool(info.cpupool);
  if (!scheduler) return scheduler.error();
  if (*scheduler == XEN_SCHEDULER_CREDIT) {
    xen_domctl_sched_credit values{};
    const Status got =
        outcome(xc_sched_credit_domain_get(xch_.get(), id, &values), "xc_sched_credit_domain_get");
    if (!got) return got.error();
    return std::uint32_t{values.cap};
  }
  if (*scheduler == XEN_SCHEDULER_CREDIT2) {
    xen_domctl_sched_credit2 values{};
    const Status got = outcome(xc_sched_credit2_domain_get(xch_.get(), id, &values),
                               "xc_sched_credit2_domain_get");
    if (!got) return got.error();
    return std::uint32_t{values.cap};
  }
  return Error{EOPNOTSUPP, "The scheduler " + scheduler_name(*scheduler) + " has no caps."};
}

Status XenHost::add(DomainId master, DomainId member) {
  return outcome(xc_scheddom_add(xch_.get(), master, member), "xc_scheddom_add");
}

Status XenHost::remove(DomainId master, DomainId member) {
  return outcome(xc_scheddom_remove(xch_.get(), master, member), "xc_scheddom_remove");
}

Status XenHost::destroy(DomainId master) {
  return outcome(xc_scheddom_destroy(xch_.get(), master), "xc_scheddom_destroy");
}

Status XenHost::set_weight(DomainId master, DomainId id, std::uint32_t weight) {
  return outcome(xc_scheddom_set(xch_.get(), master, id, weight), "xc_scheddom_set");
}

Status XenHost::remember(DomainId member, const std::string& master_name) {
  if (!store_) return Done{};  // no xenstored, so no libxl that would look
  const std::string path = note_path(member);
  // Of what libxl does not know, there is nothing to be made there.
  if (!read("/libxl/" + std::to_string(member))) return Done{};
  if (xs_write(store_.get(), XBT_NULL, path.c_str(), master_name.data(),
               static_cast<unsigned>(master_name.size())))
    return Done{};
  const int errnum = errno;
  return Error{errnum, path + " could not be written in xenstore (" + why(errnum) + ")"};
}

Status XenHost::forget(DomainId member) {
  const std::string path = note_path(member);
  if (!store_ || xs_rm(store_.get(), XBT_NULL, path.c_str()) || errno == ENOENT) return Done{};
  const int errnum = errno;
  return Error{errnum, path + " could not be removed from xenstore (" + why(errnum) + ")"};
}

void XenHost::sleep(std::chrono::milliseconds time) {
  std::this_thread::sleep_for(time);
}

}  // namespace nemesis
