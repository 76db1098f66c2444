// SPDX-License-Identifier: GPL-2.0-only
//
// Each operation on scheduling domains, and the domctls that were there before, by the size of the
// group.  The domains have a vCPU each and no memory: paused, they are all that a domctl looks at.
#include <cerrno>
#include <functional>

#include "bench.hpp"

namespace nemesis::bench {

namespace {

constexpr int kMaxMembers = 64;

class Domains {
 public:
  Domains(xc_interface* xch, int count) : xch_(xch) {
    for (int i = 0; i < count && ok_; ++i) {
      xen_domctl_createdomain configuration{};
      configuration.max_vcpus = 1;
      configuration.max_evtchn_port = 127;
      configuration.max_grant_frames = 1;
      configuration.grant_opts = XEN_DOMCTL_GRANT_version(1);
      std::uint32_t id = 0;
      ok_ = xc_domain_create(xch, &id, &configuration) == 0;
      if (!ok_) return;
      ids_.push_back(id);
      ok_ = xc_domain_max_vcpus(xch, id, 1) == 0;
    }
  }
  Domains(const Domains&) = delete;
  Domains& operator=(const Domains&) = delete;
  ~Domains() {
    for (const std::uint32_t id : ids_) xc_domain_destroy(xch_, id);
  }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] std::uint32_t operator[](std::size_t i) const { return ids_[i]; }

 private:
  xc_interface* xch_;
  std::vector<std::uint32_t> ids_;
  bool ok_ = true;
};

/// The first is the master of those after it, but for the last, which is in no group.
class Group {
 public:
  Group(xc_interface* xch, int members, bool grouped)
      : xch_(xch), domains_(xch, members + 2), members_(members), ok_(domains_.ok()) {
    if (grouped && ok_) ok_ = join_all();
  }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] std::uint32_t master() const { return domains_[0]; }
  [[nodiscard]] std::uint32_t member() const {
    return domains_[static_cast<std::size_t>(members_)];
  }
  [[nodiscard]] std::uint32_t outsider() const {
    return domains_[static_cast<std::size_t>(members_) + 1];
  }
  [[nodiscard]] bool join_all() {
    for (int i = 1; i <= members_; ++i) {
      if (xc_scheddom_add(xch_, master(), domains_[static_cast<std::size_t>(i)]) != 0) return false;
    }
    return true;
  }

 private:
  xc_interface* xch_;
  Domains domains_;
  int members_;
  bool ok_;
};

/// What is timed, and what puts things back.
struct Operation {
  const char* name;
  std::function<int(xc_interface*, Group&)> call;
  std::function<bool(xc_interface*, Group&)> before = [](xc_interface*, Group&) { return true; };
  std::function<bool(xc_interface*, Group&)> after = [](xc_interface*, Group&) { return true; };
};

int get(xc_interface* xch, Group& group) {
  xc_scheddom_info_t info{};
  std::vector<xc_scheddom_entry_t> entries(kMaxMembers + 2);
  auto count = static_cast<std::uint32_t>(entries.size());
  return xc_scheddom_get(xch, group.master(), &info, entries.data(), &count);
}

int set_cap(xc_interface* xch, std::uint32_t id, std::uint16_t cap) {
  int scheduler = 0;
  if (xc_sched_id(xch, &scheduler) != 0) return -1;
  if (scheduler == XEN_SCHEDULER_CREDIT2) {
    xen_domctl_sched_credit2 values{.weight = 0, .cap = cap};
    return xc_sched_credit2_domain_set(xch, id, &values);
  }
  xen_domctl_sched_credit values{.weight = 0, .cap = cap};
  return xc_sched_credit_domain_set(xch, id, &values);
}

std::vector<Operation> group_operations() {
  return {
      {.name = "scheddom_add",
       .call = [](auto* xch, Group& g) { return xc_scheddom_add(xch, g.master(), g.outsider()); },
       .after = [](auto* xch,
                   Group& g) { return xc_scheddom_remove(xch, g.master(), g.outsider()) == 0; }},
      {.name = "scheddom_remove",
       .call = [](auto* xch,
                  Group& g) { return xc_scheddom_remove(xch, g.master(), g.outsider()); },
       .before = [](auto* xch,
                    Group& g) { return xc_scheddom_add(xch, g.master(), g.outsider()) == 0; }},
      {.name = "scheddom_destroy",
       .call = [](auto* xch, Group& g) { return xc_scheddom_destroy(xch, g.master()); },
       .after = [](auto*, Group& g) { return g.join_all(); }},
      {.name = "scheddom_set",
       .call = [](auto* xch,
                  Group& g) { return xc_scheddom_set(xch, g.master(), g.member(), 512); }},
      {.name = "scheddom_get", .call = get},
  };
}

/// What was there before groups were: of the master, of a group or of none.
std::vector<Operation> older_operations() {
  return {
      {.name = "set_cap",
       .call = [](auto* xch, Group& g) { return set_cap(xch, g.master(), 10); },
       .after = [](auto* xch, Group& g) { return set_cap(xch, g.master(), 20) == 0; }},
      {.name = "getinfo",
       .call =
           [](auto* xch, Group& g) {
             xc_domaininfo_t info{};
             return xc_domain_getinfolist(xch, g.master(), 1, &info);
           }},
      {.name = "getvcpuinfo",
       .call =
           [](auto* xch, Group& g) {
             xc_vcpuinfo_t info{};
             return xc_vcpu_getinfo(xch, g.master(), 0, &info);
           }},
      {.name = "pause",
       .call = [](auto* xch, Group& g) { return xc_domain_pause(xch, g.master()); },
       .after = [](auto* xch, Group& g) { return xc_domain_unpause(xch, g.master()) == 0; }},
  };
}

void run(benchmark::State& state, xc_interface* xch, const Operation& operation, bool grouped) {
  Group group(xch, static_cast<int>(state.range(0)), grouped);
  if (!group.ok()) {
    state.SkipWithError("no such group");
    return;
  }
  for ([[maybe_unused]] auto iteration : state) {
    if (!operation.before(xch, group)) state.SkipWithError("before it");
    if (!timed(state, [&] { return operation.call(xch, group); })) break;
    if (!operation.after(xch, group)) state.SkipWithError("after it");
  }
}

void add(xc_interface* xch, const Operation& operation, bool grouped) {
  const std::string name = std::string(operation.name) + (grouped ? "/members" : "/alone");
  auto* found = benchmark::RegisterBenchmark(
      name.c_str(), [=](benchmark::State& state) { run(state, xch, operation, grouped); });
  found->UseManualTime()->Iterations(kIterations);
  if (grouped) {
    found->RangeMultiplier(2)->Range(1, kMaxMembers);
  } else {
    found->Arg(0);
  }
}

}  // namespace

void register_domctls(xc_interface* xch, bool patched) {
  for (const Operation& operation : older_operations()) {
    add(xch, operation, false);
    if (patched) add(xch, operation, true);
  }
  if (!patched) return;
  for (const Operation& operation : group_operations()) add(xch, operation, true);
}

}  // namespace nemesis::bench
