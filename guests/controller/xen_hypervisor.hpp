// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <map>
#include <memory>
#include <optional>

#include "domain_builder.hpp"
#include "hypervisor.hpp"
#include "tool_log.hpp"
#include "xen_libraries.hpp"
#include "xen_trace.hpp"

namespace nemesis {

/// Xen, by libxenctrl and libxenguest.
class XenHypervisor final : public Hypervisor {
 public:
  [[nodiscard]] static Result<std::unique_ptr<XenHypervisor>> open();

  [[nodiscard]] Result<HostInfo> host() override;
  [[nodiscard]] Result<DomainId> create(const DomainSpec& spec, std::uint64_t seed,
                                        std::span<const std::byte> image) override;
  [[nodiscard]] Status connect(DomainId asks, DomainId answers) override;
  [[nodiscard]] Status set_target(DomainId stub, DomainId guest) override;
  [[nodiscard]] Status pause(DomainId id) override;
  [[nodiscard]] Status unpause(DomainId id) override;
  [[nodiscard]] Status want_vcpus(DomainId id, std::uint32_t vcpus) override;
  [[nodiscard]] Status shut_down(DomainId id) override;
  [[nodiscard]] Status destroy(DomainId id, bool keep) override;
  [[nodiscard]] Result<SchedParameters> parameters(DomainId id) override;
  [[nodiscard]] Status set_cap(DomainId id, std::uint16_t cap_percent) override;
  [[nodiscard]] Status set_weight(DomainId id, std::uint16_t weight) override;
  [[nodiscard]] Status set_affinity(DomainId id, const Affinity& pcpus) override;
  [[nodiscard]] Status join(DomainId master, DomainId member) override;
  [[nodiscard]] Status leave(DomainId master, DomainId member) override;
  [[nodiscard]] Status dissolve(DomainId master) override;
  [[nodiscard]] Status set_share(DomainId master, DomainId member, std::uint16_t weight) override;
  [[nodiscard]] Result<GroupUsage> group(DomainId master) override;
  [[nodiscard]] RawAnswer scheddom(DomainId master, DomainId member,
                                   const RawScheddom& op) override;
  [[nodiscard]] Result<PoolId> create_pool(const std::string& scheduler,
                                           const std::vector<std::uint32_t>& pcpus) override;
  [[nodiscard]] Status destroy_pool(PoolId pool) override;
  [[nodiscard]] Status add_pcpu(PoolId pool, std::uint32_t pcpu) override;
  [[nodiscard]] Status remove_pcpu(PoolId pool, std::uint32_t pcpu) override;
  [[nodiscard]] Status move(DomainId id, PoolId pool) override;
  [[nodiscard]] Status start_trace() override;
  [[nodiscard]] Result<std::vector<TraceBuffer>> stop_trace() override;
  [[nodiscard]] std::uint64_t trace_clock() override;
  [[nodiscard]] Result<std::vector<DomainUsage>> usage() override;
  [[nodiscard]] const ReportPage* report_page(DomainId id) override;
  [[nodiscard]] const DevicePage* device_page(DomainId id) override;

 private:
  struct Domain {
    ForeignPage report;
    ForeignPage device;
    xen_pfn_t report_frame;
    std::uint32_t vcpus;
    PoolId pool;
  };
  struct Pool {
    int scheduler_id;
    std::vector<std::uint32_t> pcpus;
  };

  XenHypervisor() = default;
  [[nodiscard]] Status set_parameters(DomainId id, std::uint16_t cap_percent, std::uint16_t weight);
  [[nodiscard]] Result<std::uint32_t> sid_of(const DomainSpec& spec);
  [[nodiscard]] Status tell_peer(DomainId id, std::uint32_t port, DomainId owner);
  template <typename Change>
  [[nodiscard]] Status change_parameters(DomainId id, Change change);
  [[nodiscard]] int scheduler_of(DomainId id) const;
  [[nodiscard]] Status outcome(int result, const char* call);
  [[nodiscard]] Error failure(const char* call);

  ToolLog log_;  // first: the handles below write to it to their end
  XcHandle xch_;
  CallHandle call_;
  ForeignMemoryHandle memory_;
  std::map<DomainId, Domain> domains_;
  std::map<PoolId, Pool> pools_;        // all but Pool-0
  std::vector<xc_domaininfo_t> infos_;  // kept, so that a sample allocates nothing large
  int scheduler_id_ = 0;
  std::optional<XenTrace> trace_;
};

}  // namespace nemesis
