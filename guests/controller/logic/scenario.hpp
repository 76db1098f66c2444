// SPDX-License-Identifier: GPL-2.0-only
//
// The scenario as the controller is given it: JSON, compiled by the harness, times in ns from t0.
//
// The controller only does what it says; ranges checked here are those of the interfaces below, so
// that a bad scenario is refused with the key's name before anything is built.  What Xen refuses (a
// cap above 100 × vCPUs on credit2, an affinity to a pCPU that is not there) is Xen's to refuse.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "result.hpp"

namespace nemesis {

inline constexpr int kScenarioFormat = 1;
inline constexpr std::string_view kDom0Name = "dom0";
inline constexpr std::string_view kPool0Name = "pool0";
/// Domains that are none, for the op "domctl": DOMID_SELF, DOMID_XEN, an id that nobody has.
inline constexpr std::string_view kSelfName = "self";
inline constexpr std::string_view kXenName = "xen";
inline constexpr std::string_view kNobodyName = "nobody";

enum class DomainKind { kPv, kPvh, kHvm };

/// pCPU numbers; none: any pCPU.
using Affinity = std::optional<std::vector<std::uint32_t>>;

struct DomainSpec {
  std::string name;
  DomainKind kind = DomainKind::kPv;
  std::string image;
  std::uint32_t vcpus = 1;
  std::uint64_t memory_kib = 0;
  std::uint16_t cap_percent = 0;  ///< of one pCPU; 0: none
  std::uint16_t weight = 256;
  Affinity affinity;
  std::uint64_t gap_threshold_ns = 0;
  std::uint64_t chunk_iterations = 0;
  std::uint64_t period_ns = 0;
  std::uint64_t run_ns = 0;
  std::uint64_t phase_ns = 0;
  std::uint64_t cost_ns = 0;
  std::uint32_t block_bytes = 0;
  std::uint32_t malformed_every = 0;
  std::string peer;     ///< a domain before it, that answers it by event channel; may be empty
  std::string label;    ///< of Xen's access control (FLASK); empty: the usual one, if there is any
  std::string stub_of;  ///< a domain before it, whose devices it emulates; may be empty
};

enum class OpKind {
  kStart,
  kPause,
  kUnpause,
  kKill,
  kJoin,
  kLeave,
  kDissolve,
  kShare,
  kCap,
  kWeight,
  kAffinity,
  kPool,
  kPoolDestroy,
  kPoolAdd,
  kPoolRemove,
  kMove,
  kVcpus,
  kShutdown,
  kDomctl,
  kSample,
  kEnd,
};

[[nodiscard]] std::string_view name_of(OpKind kind);

/// XEN_DOMCTL_scheddom_op as it is, for what no library would send.
struct RawScheddom {
  std::uint32_t cmd = 0;
  std::uint32_t flags = 0;
  std::uint16_t pad = 0;
  std::uint32_t weight = 0;
  std::uint32_t room = 0;  ///< in domains
};

struct TimelineOp {
  std::uint64_t t_ns = 0;  ///< from t0
  OpKind kind = OpKind::kEnd;
  std::string domain;     ///< start, pause, unpause, kill, cap, weight, affinity, move
  std::string master;     ///< join, leave, dissolve, share, domctl
  std::string member;     ///< join, leave, share, domctl (may be empty there)
  std::string label;      ///< sample
  std::string pool;       ///< pool…, move
  std::string scheduler;  ///< pool
  std::uint16_t cap_percent = 0;
  std::uint16_t weight = 0;
  Affinity pcpus;           ///< affinity, pool
  std::uint32_t pcpu = 0;   ///< pool_add, pool_remove
  std::uint32_t vcpus = 0;  ///< vcpus: how many are to be up
  bool keep = false;        ///< kill: hold a page of it, so that it stays dying
  RawScheddom raw;          ///< domctl
};

/// A program of the image that is run when the timeline has ended.
struct Program {
  std::vector<std::string> words;  ///< path and arguments
  std::string echo;  ///< a domain that answers dom0 by event channel; its id and port go along
};

struct Scenario {
  std::string name;
  std::uint64_t seed = 0;
  bool trace = false;  ///< hand out the hypervisor's trace; it moves the schedule a little
  std::vector<DomainSpec> domains;
  std::optional<Program> program = std::nullopt;
  std::vector<TimelineOp> timeline;  ///< t_ns never decreases; the last op, and only it, is kEnd
};

/// Errors name the key, as in `timeline[3].cap_percent: …`.
[[nodiscard]] Result<Scenario> parse_scenario(std::string_view json);

}  // namespace nemesis
