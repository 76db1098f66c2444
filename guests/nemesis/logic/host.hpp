// SPDX-License-Identifier: GPL-2.0-only
//
// What nemesis wants of a host, in its own words.  XenHost does it with libxenctrl and libxenstore;
// the unit tests have one of their own.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "result.hpp"

namespace nemesis {

using DomainId = std::uint32_t;
inline constexpr DomainId kDom0Id = 0;

struct Domain {
  DomainId id = 0;
  std::string name;                 ///< empty: nobody gave it one
  std::optional<DomainId> stub_of;  ///< the guest whose devices it emulates
  std::uint32_t pool = 0;
  std::string scheduler;  ///< of its pool, as in "credit2"
  bool dying = false;
};

struct Counters {
  std::uint64_t usage_ns = 0;
  std::uint64_t nr_periods = 0;    ///< refills of budget for which it wanted to run
  std::uint64_t nr_throttled = 0;  ///< of those, in how many it had to wait
  std::uint64_t throttled_ns = 0;  ///< time in which a vCPU of it had to wait

  Counters& operator+=(const Counters& other);
  [[nodiscard]] Counters operator-(const Counters& before) const;
};

struct GroupDomain {
  DomainId id = 0;
  std::uint32_t weight = 0;  ///< inside the group
  Counters since_joined;
};

/// A group, at one instant of the hypervisor's.
struct Group {
  DomainId master = 0;
  std::uint32_t cap_percent = 0;  ///< of one pCPU; 0: none
  std::uint32_t weight = 0;       ///< the master's
  std::uint64_t now_ns = 0;
  Counters since_made;
  std::vector<GroupDomain> domains;  ///< the master first
};

/// Every Error carries the hypercall's errno unchanged.
class Host {
 public:
  Host() = default;
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;
  virtual ~Host() = default;

  [[nodiscard]] virtual std::string xen_version() = 0;
  /// Whether the hypervisor speaks this build's version of the interface at all.
  [[nodiscard]] virtual bool interface_matches() = 0;

  [[nodiscard]] virtual Result<std::vector<Domain>> domains() = 0;
  /// The group that a domain is in; ENOENT: in none.
  [[nodiscard]] virtual Result<Group> group(DomainId any) = 0;
  /// The domain's cap in percent of one pCPU, 0: none.
  [[nodiscard]] virtual Result<std::uint32_t> cap(DomainId id) = 0;

  [[nodiscard]] virtual Status add(DomainId master, DomainId member) = 0;
  [[nodiscard]] virtual Status remove(DomainId master, DomainId member) = 0;
  [[nodiscard]] virtual Status destroy(DomainId master) = 0;
  /// 0: the default, the same for all.
  [[nodiscard]] virtual Status set_weight(DomainId master, DomainId id, std::uint32_t weight) = 0;

  /// libxl's note of whose group a domain is in: a master that is created again gets it back.
  [[nodiscard]] virtual Status remember(DomainId member, const std::string& master_name) = 0;
  [[nodiscard]] virtual Status forget(DomainId member) = 0;

  virtual void sleep(std::chrono::milliseconds time) = 0;
};

}  // namespace nemesis
