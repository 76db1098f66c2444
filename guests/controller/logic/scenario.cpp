// SPDX-License-Identifier: GPL-2.0-only
#include "scenario.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "nemesis/report_page.hpp"

namespace nemesis {

namespace {

using Json = nlohmann::json;

constexpr std::array<std::string_view, 21> kOpNames = {
    "start",       "pause", "unpause", "kill",     "join",   "leave",        "dissolve",
    "share",       "cap",   "weight",  "affinity", "pool",   "pool_destroy", "pool_add",
    "pool_remove", "move",  "vcpus",   "shutdown", "domctl", "sample",       "end"};

constexpr std::array<std::string_view, 3> kKindNames = {"pv", "pvh", "hvm"};

// Ranges of the interfaces below: xen_domctl_sched_credit{,2} carry cap and weight as 16 bits,
// where cap 65535 and weight 0 mean "leave it"; below 4 MiB the PV builder has no room for its page
// tables.
constexpr std::uint64_t kMaxCapPercent = 65534;
constexpr std::uint64_t kMaxWeight = 65535;
constexpr std::uint64_t kMinMemoryKib = 4096;
constexpr std::uint64_t kMaxMemoryKib = 1'048'576;
constexpr std::uint64_t kMaxPcpus = 4096;
constexpr std::uint64_t kMaxRoom = 64;
constexpr std::uint64_t kMaxBlockBytes = 4096;
constexpr std::uint64_t kMaxTimeNs = 1'000'000'000'000'000;  // 11 days

/// First error wins; everything after it is skipped.
class Checker {
 public:
  void fail(const std::string& key, const std::string& what) {
    if (!error_) error_ = Error{EINVAL, "scenario: " + key + ": " + what};
  }
  [[nodiscard]] bool failed() const { return error_.has_value(); }
  [[nodiscard]] const Error& error() const { return *error_; }

 private:
  std::optional<Error> error_;
};

/// One JSON object, with its path for messages.
class Object {
 public:
  Object(const Json& json, std::string path, Checker& checker)
      : json_(json), path_(std::move(path)), checker_(checker) {
    if (!json_.is_object()) checker_.fail(path_, "must be an object");
  }

  [[nodiscard]] std::string key(std::string_view name) const {
    return path_.empty() ? std::string(name) : path_ + "." + std::string(name);
  }

  [[nodiscard]] const Json* find(std::string_view name) const {
    if (checker_.failed()) return nullptr;
    const auto found = json_.find(name);
    if (found != json_.end()) return &*found;
    checker_.fail(key(name), "is missing");
    return nullptr;
  }

  void only(std::initializer_list<std::string_view> known) const {
    if (checker_.failed()) return;
    for (const auto& item : json_.items()) {
      if (std::find(known.begin(), known.end(), item.key()) == known.end()) {
        checker_.fail(key(item.key()), "is not a key that the controller knows here");
      }
    }
  }

  [[nodiscard]] std::uint64_t integer(std::string_view name, std::uint64_t low,
                                      std::uint64_t high) const {
    const Json* value = find(name);
    return value == nullptr ? 0 : integer(*value, key(name), low, high);
  }

  template <typename T>
  [[nodiscard]] T number(std::string_view name, std::uint64_t low,
                         std::uint64_t high = std::numeric_limits<T>::max()) const {
    return static_cast<T>(integer(name, low, high));
  }

  [[nodiscard]] std::string text(std::string_view name) const {
    const Json* value = find(name);
    if (value == nullptr) return {};
    if (!value->is_string() || value->get_ref<const std::string&>().empty()) {
      checker_.fail(key(name), "must be a string that is not empty");
      return {};
    }
    return value->get<std::string>();
  }

  [[nodiscard]] const Json::array_t& array(std::string_view name) const {
    static const Json::array_t kNone;
    const Json* value = find(name);
    if (value == nullptr) return kNone;
    if (value->is_array()) return value->get_ref<const Json::array_t&>();
    checker_.fail(key(name), "must be an array");
    return kNone;
  }

  [[nodiscard]] Affinity pcpus(std::string_view name) const {
    const Json* value = find(name);
    if (value == nullptr || value->is_null()) return std::nullopt;
    std::vector<std::uint32_t> pcpus;
    std::size_t index = 0;
    for (const Json& pcpu : array(name)) {
      const std::string where = key(name) + "[" + std::to_string(index++) + "]";
      pcpus.push_back(static_cast<std::uint32_t>(integer(pcpu, where, 0, kMaxPcpus - 1)));
    }
    if (pcpus.empty()) checker_.fail(key(name), "must name a pCPU at least, or be null for any");
    return pcpus;
  }

 private:
  [[nodiscard]] std::uint64_t integer(const Json& value, const std::string& where,
                                      std::uint64_t low, std::uint64_t high) const {
    if (value.is_number_unsigned()) {
      const auto found = value.get<std::uint64_t>();
      if (found >= low && found <= high) return found;
    }
    checker_.fail(where, "must be an integer from " + std::to_string(low) + " to " +
                             std::to_string(high) + ", not " + value.dump());
    return low;
  }

  const Json& json_;
  std::string path_;
  Checker& checker_;
};

DomainSpec parse_domain(const Json& json, const std::string& path, Checker& checker) {
  const Object object(json, path, checker);
  object.only({"name", "kind", "image", "vcpus", "memory_kib", "cap_percent", "weight", "affinity",
               "guest", "peer", "label", "stub_of"});
  DomainSpec domain;
  domain.name = object.text("name");
  if (domain.name == kDom0Name) checker.fail(object.key("name"), "dom0 is there already");
  const std::string kind = object.text("kind");
  const auto found = std::find(kKindNames.begin(), kKindNames.end(), kind);
  if (found == kKindNames.end()) {
    checker.fail(object.key("kind"), "must be \"pv\", \"pvh\" or \"hvm\"");
  } else {
    domain.kind = static_cast<DomainKind>(found - kKindNames.begin());
  }
  domain.image = object.text("image");
  domain.vcpus = object.number<std::uint32_t>("vcpus", 1, kMaxGuestVcpus);
  domain.memory_kib = object.integer("memory_kib", kMinMemoryKib, kMaxMemoryKib);
  if (domain.memory_kib % 1024 != 0) {
    checker.fail(object.key("memory_kib"), "must be a multiple of 1024");
  }
  domain.cap_percent = object.number<std::uint16_t>("cap_percent", 0, kMaxCapPercent);
  domain.weight = object.number<std::uint16_t>("weight", 1, kMaxWeight);
  domain.affinity = object.pcpus("affinity");
  if (const Json* peer = object.find("peer"); peer != nullptr && !peer->is_null()) {
    domain.peer = object.text("peer");
  }
  if (const Json* label = object.find("label"); label != nullptr && !label->is_null()) {
    domain.label = object.text("label");
  }
  if (json.contains("stub_of")) {
    domain.stub_of = object.text("stub_of");
    if (domain.kind != DomainKind::kPv) checker.fail(object.key("kind"), "of a stub is \"pv\"");
  }
  if (const Json* guest = object.find("guest")) {
    const Object parameters(*guest, object.key("guest"), checker);
    parameters.only({"gap_threshold_ns", "chunk_iterations", "period_ns", "run_ns", "phase_ns",
                     "cost_ns", "block_bytes", "malformed_every"});
    domain.gap_threshold_ns = parameters.integer("gap_threshold_ns", 1, kMaxTimeNs);
    domain.chunk_iterations = parameters.integer("chunk_iterations", 1, kMaxTimeNs);
    domain.period_ns = parameters.integer("period_ns", 0, kMaxTimeNs);
    domain.run_ns = parameters.integer("run_ns", 0, kMaxTimeNs);
    domain.phase_ns = parameters.integer("phase_ns", 0, kMaxTimeNs);
    // Of a device, where there is one.
    if (guest->contains("cost_ns")) domain.cost_ns = parameters.integer("cost_ns", 0, kMaxTimeNs);
    if (guest->contains("block_bytes")) {
      domain.block_bytes = parameters.number<std::uint32_t>("block_bytes", 0, kMaxBlockBytes);
    }
    if (guest->contains("malformed_every")) {
      domain.malformed_every = parameters.number<std::uint32_t>("malformed_every", 0);
    }
  }
  return domain;
}

std::optional<OpKind> op_kind(std::string_view name) {
  const auto found = std::find(kOpNames.begin(), kOpNames.end(), name);
  if (found == kOpNames.end()) return std::nullopt;
  return static_cast<OpKind>(found - kOpNames.begin());
}

/// A key that names a domain of the scenario, or dom0 where that is allowed.
std::string domain_name(const Object& object, std::string_view key, bool dom0_allowed,
                        const std::set<std::string>& names, Checker& checker) {
  std::string name = object.text(key);
  if (checker.failed()) return name;
  if (name == kDom0Name) {
    if (!dom0_allowed) checker.fail(object.key(key), "dom0 cannot be the object of this op");
  } else if (names.count(name) == 0) {
    checker.fail(object.key(key), "no domain is named \"" + name + "\"");
  }
  return name;
}

std::string pool_name(const Object& object, bool pool0_allowed, const std::set<std::string>& pools,
                      Checker& checker) {
  std::string name = object.text("pool");
  if (checker.failed()) return name;
  if (name == kPool0Name) {
    if (!pool0_allowed) checker.fail(object.key("pool"), "pool0 is always there");
  } else if (pools.count(name) == 0) {
    checker.fail(object.key("pool"), "no pool is named \"" + name + "\"");
  }
  return name;
}

/// As domain_name(), or one of those that are none.
std::string any_domain_name(const Object& object, std::string_view key,
                            const std::set<std::string>& names, Checker& checker) {
  std::string name = object.text(key);
  if (name == kSelfName || name == kXenName || name == kNobodyName) return name;
  return domain_name(object, key, true, names, checker);
}

TimelineOp parse_op(const Json& json, const std::string& path, const std::set<std::string>& names,
                    std::set<std::string>& pools, Checker& checker) {
  const Object object(json, path, checker);
  TimelineOp op;
  op.t_ns = object.integer("t_ns", 0, kMaxTimeNs);
  const std::string name = object.text("op");
  if (checker.failed()) return op;
  const std::optional<OpKind> kind = op_kind(name);
  if (!kind) {
    checker.fail(object.key("op"), "the controller knows no op \"" + name + "\"");
    return op;
  }
  op.kind = *kind;
  switch (op.kind) {
    case OpKind::kStart:
    case OpKind::kPause:
    case OpKind::kUnpause:
    case OpKind::kShutdown:
      object.only({"t_ns", "op", "domain"});
      op.domain = domain_name(object, "domain", false, names, checker);
      break;
    case OpKind::kKill:
      object.only({"t_ns", "op", "domain", "keep"});
      op.domain = domain_name(object, "domain", false, names, checker);
      op.keep = json.contains("keep") && object.number<std::uint32_t>("keep", 0, 1) == 1;
      break;
    case OpKind::kJoin:
    case OpKind::kLeave:
      object.only({"t_ns", "op", "master", "member"});
      op.master = domain_name(object, "master", true, names, checker);
      op.member = domain_name(object, "member", true, names, checker);
      break;
    case OpKind::kDissolve:
      object.only({"t_ns", "op", "master"});
      op.master = domain_name(object, "master", true, names, checker);
      break;
    case OpKind::kShare:
      object.only({"t_ns", "op", "master", "member", "weight"});
      op.master = domain_name(object, "master", true, names, checker);
      op.member = domain_name(object, "member", true, names, checker);
      op.weight = object.number<std::uint16_t>("weight", 0, kMaxWeight);
      break;
    case OpKind::kCap:
      object.only({"t_ns", "op", "domain", "cap_percent"});
      op.domain = domain_name(object, "domain", true, names, checker);
      op.cap_percent = object.number<std::uint16_t>("cap_percent", 0, kMaxCapPercent);
      break;
    case OpKind::kWeight:
      object.only({"t_ns", "op", "domain", "weight"});
      op.domain = domain_name(object, "domain", true, names, checker);
      op.weight = object.number<std::uint16_t>("weight", 1, kMaxWeight);
      break;
    case OpKind::kAffinity:
      object.only({"t_ns", "op", "domain", "pcpus"});
      op.domain = domain_name(object, "domain", false, names, checker);
      op.pcpus = object.pcpus("pcpus");
      break;
    case OpKind::kVcpus:
      object.only({"t_ns", "op", "domain", "vcpus"});
      op.domain = domain_name(object, "domain", false, names, checker);
      op.vcpus = object.number<std::uint32_t>("vcpus", 1, kMaxGuestVcpus);
      break;
    case OpKind::kPool:
      object.only({"t_ns", "op", "pool", "scheduler", "pcpus"});
      op.pool = object.text("pool");
      if (op.pool == kPool0Name || !pools.insert(op.pool).second) {
        checker.fail(object.key("pool"), "\"" + op.pool + "\" is taken");
      }
      op.scheduler = object.text("scheduler");
      op.pcpus = object.pcpus("pcpus");
      if (!op.pcpus) checker.fail(object.key("pcpus"), "must name a pCPU at least");
      break;
    case OpKind::kPoolDestroy:
      object.only({"t_ns", "op", "pool"});
      op.pool = pool_name(object, false, pools, checker);
      break;
    case OpKind::kPoolAdd:
    case OpKind::kPoolRemove:
      object.only({"t_ns", "op", "pool", "pcpu"});
      op.pool = pool_name(object, false, pools, checker);
      op.pcpu = object.number<std::uint32_t>("pcpu", 0, kMaxPcpus - 1);
      break;
    case OpKind::kMove:
      object.only({"t_ns", "op", "domain", "pool"});
      op.domain = domain_name(object, "domain", false, names, checker);
      op.pool = pool_name(object, true, pools, checker);
      break;
    case OpKind::kDomctl:
      object.only({"t_ns", "op", "cmd", "master", "member", "flags", "pad", "weight", "room"});
      op.master = any_domain_name(object, "master", names, checker);
      if (json.contains("member")) op.member = any_domain_name(object, "member", names, checker);
      op.raw = {.cmd = object.number<std::uint32_t>("cmd", 0),
                .flags = object.number<std::uint32_t>("flags", 0),
                .pad = object.number<std::uint16_t>("pad", 0),
                .weight = object.number<std::uint32_t>("weight", 0),
                .room = object.number<std::uint32_t>("room", 0, kMaxRoom)};
      break;
    case OpKind::kSample:
      object.only({"t_ns", "op", "label"});
      op.label = object.text("label");
      break;
    case OpKind::kEnd:
      object.only({"t_ns", "op"});
      break;
  }
  return op;
}

Program parse_program(const Json& json, const std::set<std::string>& names, Checker& checker) {
  const Object object(json, "program", checker);
  object.only({"words", "echo"});
  Program program;
  for (const Json& word : object.array("words")) {
    if (word.is_string()) {
      program.words.push_back(word.get<std::string>());
    } else {
      checker.fail(object.key("words"), "must be strings");
    }
  }
  if (program.words.empty()) checker.fail(object.key("words"), "must name a program");
  if (!checker.failed() && json.contains("echo")) {
    program.echo = domain_name(object, "echo", false, names, checker);
  }
  return program;
}

void check_timeline(const std::vector<TimelineOp>& timeline, Checker& checker) {
  std::uint64_t previous_ns = 0;
  for (std::size_t i = 0; i < timeline.size(); ++i) {
    const std::string path = "timeline[" + std::to_string(i) + "]";
    if (timeline[i].t_ns < previous_ns) checker.fail(path + ".t_ns", "is before the op above it");
    previous_ns = timeline[i].t_ns;
    if (timeline[i].kind == OpKind::kEnd && i + 1 != timeline.size()) {
      checker.fail(path + ".op", "nothing may follow \"end\"");
    }
  }
  if (timeline.empty() || timeline.back().kind != OpKind::kEnd) {
    checker.fail("timeline", "must close with an \"end\" op");
  }
}

}  // namespace

std::string_view name_of(OpKind kind) {
  return kOpNames[static_cast<std::size_t>(kind)];
}

Result<Scenario> parse_scenario(std::string_view json) {
  Json root;
  try {
    root = Json::parse(json);
  } catch (const Json::parse_error& error) {
    return Error{EINVAL, std::string("scenario: not JSON: ") + error.what()};
  }

  Checker checker;
  const Object object(root, "", checker);
  if (checker.failed()) return Error{EINVAL, "scenario: must be a JSON object"};
  object.only({"format", "name", "seed", "domains", "timeline", "trace", "program"});
  if (object.integer("format", 0, kMaxTimeNs) != kScenarioFormat) {
    checker.fail("format", "must be " + std::to_string(kScenarioFormat) +
                               "; harness and controller differ in age");
  }

  Scenario scenario;
  scenario.name = object.text("name");
  scenario.seed = object.integer("seed", 0, std::numeric_limits<std::uint64_t>::max());

  scenario.trace = root.contains("trace") && object.number<std::uint32_t>("trace", 0, 1) == 1;

  std::set<std::string> names;
  for (const Json& domain : object.array("domains")) {
    const std::string path = "domains[" + std::to_string(scenario.domains.size()) + "]";
    scenario.domains.push_back(parse_domain(domain, path, checker));
    const DomainSpec& added = scenario.domains.back();
    const std::string& name = added.name;
    const std::pair<const char*, const std::string*> others[] = {{".peer", &added.peer},
                                                                 {".stub_of", &added.stub_of}};
    for (const auto& [key, other] : others) {
      if (!other->empty() && names.count(*other) == 0) {
        checker.fail(path + key, "no domain before it is named \"" + *other + "\"");
      }
    }
    if (!names.insert(name).second) checker.fail(path + ".name", "\"" + name + "\" is taken");
  }
  if (root.contains("program")) {
    scenario.program = parse_program(*object.find("program"), names, checker);
  }
  std::set<std::string> pools;
  for (const Json& op : object.array("timeline")) {
    const std::string path = "timeline[" + std::to_string(scenario.timeline.size()) + "]";
    scenario.timeline.push_back(parse_op(op, path, names, pools, checker));
  }
  if (!checker.failed()) check_timeline(scenario.timeline, checker);
  if (checker.failed()) return checker.error();
  return scenario;
}

}  // namespace nemesis
