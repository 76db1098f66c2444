// SPDX-License-Identifier: GPL-2.0-only
//
// What the controller wants of a hypervisor, in its own words.  XenHypervisor does it with
// libxenctrl; the unit tests have one of their own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "nemesis/device_page.hpp"
#include "nemesis/report_page.hpp"
#include "result.hpp"
#include "scenario.hpp"
#include "trace.hpp"

namespace nemesis {

using DomainId = std::uint32_t;
inline constexpr DomainId kDom0Id = 0;
// As in Xen's public/xen.h; the last is below the special ones, and nobody gets that far.
inline constexpr DomainId kSelfId = 0x7FF0;
inline constexpr DomainId kXenId = 0x7FF2;
inline constexpr DomainId kNobodyId = 0x7FEF;

using PoolId = std::uint32_t;
inline constexpr PoolId kPool0Id = 0;

struct HostInfo {
  std::string xen_version;  ///< as in "4.17.5"
  std::string xen_build;    ///< build id in hex, or changeset; may be empty
  std::string scheduler;    ///< as in "credit2"
  std::uint32_t pcpus = 0;
  std::uint64_t cpu_khz = 0;
  std::uint64_t total_kib = 0;
};

struct SchedParameters {
  std::uint16_t cap_percent = 0;
  std::uint16_t weight = 0;
};

struct DomainUsage {
  DomainId id = 0;
  std::uint64_t cpu_ns = 0;
  std::string_view state;  ///< dying, crashed, shutdown, paused, blocked, running, runnable
};

struct GroupDomainUsage {
  DomainId id = 0;
  std::uint32_t weight = 0;
  std::uint64_t usage_ns = 0;
  std::uint64_t nr_periods = 0;
  std::uint64_t nr_throttled = 0;
  std::uint64_t throttled_ns = 0;
};

struct GroupUsage {
  DomainId master = 0;
  std::uint64_t now_ns = 0;
  std::uint32_t cap_percent = 0;
  std::uint32_t weight = 0;
  std::uint64_t usage_ns = 0;
  std::uint64_t nr_periods = 0;
  std::uint64_t nr_throttled = 0;
  std::uint64_t throttled_ns = 0;
  std::vector<GroupDomainUsage> domains;  ///< the master first
};

struct RawAnswer {
  int errnum = 0;             ///< 0: it worked
  std::uint32_t count = 0;    ///< nr_domains, as returned
  std::uint32_t written = 0;  ///< entries of the buffer that were written
};

/// Every Error carries the hypercall's errno unchanged.
class Hypervisor {
 public:
  Hypervisor() = default;
  Hypervisor(const Hypervisor&) = delete;
  Hypervisor& operator=(const Hypervisor&) = delete;
  virtual ~Hypervisor() = default;

  [[nodiscard]] virtual Result<HostInfo> host() = 0;

  /// Builds the domain, paused, with its cap, weight, affinity and parameters; nothing is left of
  /// one that fails.
  [[nodiscard]] virtual Result<DomainId> create(const DomainSpec& spec, std::uint64_t seed,
                                                std::span<const std::byte> image) = 0;
  /// An event channel between two domains that have not run yet, told to their guests.
  [[nodiscard]] virtual Status connect(DomainId asks, DomainId answers) = 0;
  /// Makes a domain that has not run yet privileged over a hardware-virtualised one, and tells it.
  [[nodiscard]] virtual Status set_target(DomainId stub, DomainId guest) = 0;
  [[nodiscard]] virtual Status pause(DomainId id) = 0;
  [[nodiscard]] virtual Status unpause(DomainId id) = 0;
  /// The guest is told, and brings vCPUs up and down by itself.
  [[nodiscard]] virtual Status want_vcpus(DomainId id, std::uint32_t vcpus) = 0;
  /// As if the guest had powered itself off: it runs no more, and is not destroyed.
  [[nodiscard]] virtual Status shut_down(DomainId id) = 0;
  /// Returns when the domain is gone; with `keep` it stays dying, as a page of it is held.
  [[nodiscard]] virtual Status destroy(DomainId id, bool keep) = 0;

  [[nodiscard]] virtual Result<SchedParameters> parameters(DomainId id) = 0;
  [[nodiscard]] virtual Status set_cap(DomainId id, std::uint16_t cap_percent) = 0;
  [[nodiscard]] virtual Status set_weight(DomainId id, std::uint16_t weight) = 0;
  [[nodiscard]] virtual Status set_affinity(DomainId id, const Affinity& pcpus) = 0;

  [[nodiscard]] virtual Status join(DomainId master, DomainId member) = 0;
  [[nodiscard]] virtual Status leave(DomainId master, DomainId member) = 0;
  [[nodiscard]] virtual Status dissolve(DomainId master) = 0;
  /// What the domain weighs against the others of its group; 0: the same as any.
  [[nodiscard]] virtual Status set_share(DomainId master, DomainId member,
                                         std::uint16_t weight) = 0;
  [[nodiscard]] virtual Result<GroupUsage> group(DomainId master) = 0;
  /// The hypercall as it is; its errno is in the answer.
  [[nodiscard]] virtual RawAnswer scheddom(DomainId master, DomainId member,
                                           const RawScheddom& op) = 0;

  /// A pool of that scheduler with these pCPUs of Pool-0; nothing is left of one that fails.
  [[nodiscard]] virtual Result<PoolId> create_pool(const std::string& scheduler,
                                                   const std::vector<std::uint32_t>& pcpus) = 0;
  /// Its pCPUs go back to Pool-0.
  [[nodiscard]] virtual Status destroy_pool(PoolId pool) = 0;
  /// From Pool-0 to the pool, and back.
  [[nodiscard]] virtual Status add_pcpu(PoolId pool, std::uint32_t pcpu) = 0;
  [[nodiscard]] virtual Status remove_pcpu(PoolId pool, std::uint32_t pcpu) = 0;
  [[nodiscard]] virtual Status move(DomainId id, PoolId pool) = 0;

  /// From now on the hypervisor notes each switch and each event of groups.
  [[nodiscard]] virtual Status start_trace() = 0;
  /// ENOBUFS where a buffer was too small for all of it.
  [[nodiscard]] virtual Result<std::vector<TraceBuffer>> stop_trace() = 0;
  /// The clock of the trace's time stamps.
  [[nodiscard]] virtual std::uint64_t trace_clock() = 0;

  /// All domains, by one hypercall.
  [[nodiscard]] virtual Result<std::vector<DomainUsage>> usage() = 0;
  /// The page of a domain that create() made and destroy() has not taken away; else null.
  [[nodiscard]] virtual const ReportPage* report_page(DomainId id) = 0;
  /// The page behind it, of the same domains.
  [[nodiscard]] virtual const DevicePage* device_page(DomainId id) = 0;
};

}  // namespace nemesis
