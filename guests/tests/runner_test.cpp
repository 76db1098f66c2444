// SPDX-License-Identifier: GPL-2.0-only
#include "runner.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

namespace nemesis {
namespace {

using Json = nlohmann::json;

class FakeClock final : public Clock {
 public:
  std::uint64_t now = 250'000'000;
  std::uint64_t now_ns() override { return now += 10; }  // time passes between any two looks
  std::function<void()> on_sleep = [] {};
  void sleep_until(std::uint64_t t_ns) override {
    now = std::max(now, t_ns);
    on_sleep();
  }
};

/// Remembers what was asked; refuses what it is told to refuse.
class FakeHypervisor final : public Hypervisor {
 public:
  std::vector<std::string> calls;
  std::map<std::string, int> refusals;
  std::map<DomainId, std::unique_ptr<ReportPage>> pages;
  std::map<DomainId, std::vector<DomainId>> groups;
  std::vector<std::uint64_t> seeds;
  std::function<void()> on_usage = [] {};
  std::uint64_t tsc = 0;
  std::function<void()> on_page = [] {};

  Result<HostInfo> host() override { return HostInfo{}; }
  Result<DomainId> create(const DomainSpec& spec, std::uint64_t seed,
                          std::span<const std::byte> image) override {
    seeds.push_back(seed);
    const Status status = call("create " + spec.name + " " + std::to_string(image.size()));
    if (!status) return status.error();
    const auto id = static_cast<DomainId>(pages.size() + 1);
    pages[id] = std::make_unique<ReportPage>();
    return id;
  }
  Status connect(DomainId asks, DomainId answers) override {
    return call("connect " + std::to_string(asks) + " " + std::to_string(answers));
  }
  Status set_target(DomainId stub, DomainId guest) override {
    return call("set_target " + std::to_string(stub) + " " + std::to_string(guest));
  }
  Status pause(DomainId id) override { return call("pause " + std::to_string(id)); }
  std::function<void()> on_unpause = [] {};
  Status unpause(DomainId id) override {
    on_unpause();
    return call("unpause " + std::to_string(id));
  }
  Status want_vcpus(DomainId id, std::uint32_t vcpus) override {
    return call("vcpus " + std::to_string(id) + " " + std::to_string(vcpus));
  }
  Status shut_down(DomainId id) override { return call("shutdown " + std::to_string(id)); }
  Status destroy(DomainId id, bool keep) override {
    pages.erase(id);
    return call("destroy " + std::to_string(id) + (keep ? " keep" : ""));
  }
  Result<SchedParameters> parameters(DomainId /*id*/) override { return SchedParameters{10, 256}; }
  Status set_cap(DomainId id, std::uint16_t cap) override {
    return call("cap " + std::to_string(id) + " " + std::to_string(cap));
  }
  Status set_weight(DomainId id, std::uint16_t weight) override {
    return call("weight " + std::to_string(id) + " " + std::to_string(weight));
  }
  Status set_affinity(DomainId id, const Affinity& pcpus) override {
    return call("affinity " + std::to_string(id) + " " +
                (pcpus ? std::to_string(pcpus->size()) : "any"));
  }
  Status join(DomainId master, DomainId member) override {
    Status status = call("join " + std::to_string(master) + " " + std::to_string(member));
    if (status) groups[master] = {master, member};
    return status;
  }
  Status leave(DomainId master, DomainId member) override {
    groups.erase(master);
    return call("leave " + std::to_string(master) + " " + std::to_string(member));
  }
  Status dissolve(DomainId master) override {
    groups.erase(master);
    return call("dissolve " + std::to_string(master));
  }
  Status set_share(DomainId master, DomainId member, std::uint16_t weight) override {
    return call("share " + std::to_string(master) + " " + std::to_string(member) + " " +
                std::to_string(weight));
  }
  Result<GroupUsage> group(DomainId master) override {
    const auto found = groups.find(master);
    if (found == groups.end()) return Error{ENOENT, "no group"};
    GroupUsage found_usage{};
    found_usage.master = master;
    for (const DomainId id : found->second) found_usage.domains.push_back({.id = id});
    return found_usage;
  }
  RawAnswer scheddom(DomainId master, DomainId member, const RawScheddom& op) override {
    const Status status = call("domctl " + std::to_string(op.cmd) + " " + std::to_string(master) +
                               " " + std::to_string(member) + " " + std::to_string(op.flags) + " " +
                               std::to_string(op.pad) + " " + std::to_string(op.room));
    return {.errnum = status ? 0 : status.error().errnum, .count = 3, .written = op.room};
  }
  Result<PoolId> create_pool(const std::string& scheduler,
                             const std::vector<std::uint32_t>& pcpus) override {
    const Status status = call("pool " + scheduler + " " + std::to_string(pcpus.size()));
    if (!status) return status.error();
    return PoolId{7};
  }
  Status destroy_pool(PoolId pool) override { return call("pool_destroy " + std::to_string(pool)); }
  Status add_pcpu(PoolId pool, std::uint32_t pcpu) override {
    return call("pool_add " + std::to_string(pool) + " " + std::to_string(pcpu));
  }
  Status remove_pcpu(PoolId pool, std::uint32_t pcpu) override {
    return call("pool_remove " + std::to_string(pool) + " " + std::to_string(pcpu));
  }
  Status move(DomainId id, PoolId pool) override {
    return call("move " + std::to_string(id) + " " + std::to_string(pool));
  }
  Status start_trace() override { return call("start_trace"); }
  Result<std::vector<TraceBuffer>> stop_trace() override {
    const Status status = call("stop_trace");
    if (!status) return status.error();
    return std::vector<TraceBuffer>{{.pcpu = 0, .records = {std::byte{'f'}}},
                                    {.pcpu = 1, .records = {}}};
  }
  std::uint64_t trace_clock() override { return ++tsc; }
  Result<std::vector<DomainUsage>> usage() override {
    on_usage();
    const Status status = call("usage");
    if (!status) return status.error();
    std::vector<DomainUsage> usage = {{.id = 0, .cpu_ns = 5, .state = "running"}};
    for (const auto& [id, page] : pages)
      usage.push_back({.id = id, .cpu_ns = id * 100ULL, .state = "runnable"});
    return usage;
  }
  std::map<DomainId, DevicePage> devices;
  const DevicePage* device_page(DomainId id) override {
    const auto found = devices.find(id);
    return found == devices.end() ? nullptr : &found->second;
  }
  const ReportPage* report_page(DomainId id) override {
    on_page();
    const auto found = pages.find(id);
    return found == pages.end() ? nullptr : found->second.get();
  }

 private:
  Status call(const std::string& what) {
    calls.push_back(what);
    const auto refusal = refusals.find(what);
    if (refusal != refusals.end()) return Error{refusal->second, what};
    return Done{};
  }
};

class JsonSink final : public LineSink {
 public:
  std::vector<Json> lines;
  void write(std::string_view line) override { lines.push_back(Json::parse(line)); }
};

DomainSpec domain(const std::string& name) {
  DomainSpec spec;
  spec.name = name;
  spec.image = "burner-pv";
  return spec;
}

TimelineOp op(std::uint64_t t_ns, OpKind kind, const std::string& first = {},
              const std::string& second = {}) {
  TimelineOp op;
  op.t_ns = t_ns;
  op.kind = kind;
  op.domain = op.master = op.label = first;
  op.member = second;
  return op;
}

class RunnerTest : public testing::Test {
 protected:
  Scenario scenario{.name = "s", .seed = 1, .domains = {domain("a"), domain("b")}, .timeline = {}};
  FakeHypervisor hypervisor;
  FakeClock clock;
  JsonSink sink;
  RecordWriter records{sink};
  int images_read = 0;
  ImageSource images = [this](const std::string& /*name*/) -> Result<std::vector<std::byte>> {
    ++images_read;
    return std::vector<std::byte>(7);
  };

  void run() {
    auto runner = Runner::create(scenario, images, hypervisor, clock, records);
    ASSERT_TRUE(runner) << runner.error().what;
    runner->run();
  }
  [[nodiscard]] const Json& last() const { return sink.lines.back(); }
};

TEST_F(RunnerTest, BuildsAllBeforeT0AndReadsAnImageOnce) {
  scenario.timeline = {op(0, OpKind::kEnd)};
  run();
  EXPECT_EQ(images_read, 1);
  EXPECT_EQ(hypervisor.calls, (std::vector<std::string>{"create a 7", "create b 7"}));
  EXPECT_NE(hypervisor.seeds[0], hypervisor.seeds[1]);
  ASSERT_EQ(sink.lines.size(), 3U);
  EXPECT_EQ(sink.lines[0]["domid"], 1);
  EXPECT_EQ(sink.lines[1]["name"], "b");
  EXPECT_EQ(sink.lines[2]["r"], "scenario");
  EXPECT_EQ(sink.lines[2]["t0_ns"], 300'000'000);
}

TEST_F(RunnerTest, OpsHappenAtTheirTimes) {
  scenario.timeline = {op(0, OpKind::kStart, "a"), op(5'000, OpKind::kPause, "a"),
                       op(5'000, OpKind::kKill, "b"), op(6'000, OpKind::kEnd)};
  run();
  EXPECT_EQ(hypervisor.calls[2], "unpause 1");
  EXPECT_EQ(hypervisor.calls[3], "pause 1");
  EXPECT_EQ(hypervisor.calls[4], "destroy 2");
  EXPECT_EQ(sink.lines[3]["t_ns"], 10);
  EXPECT_EQ(sink.lines[3]["done_ns"], 20);
  EXPECT_EQ(sink.lines[4]["t_ns"], 5'010);
  EXPECT_GT(sink.lines[5]["t_ns"], sink.lines[4]["done_ns"]);
  EXPECT_GE(clock.now, 300'006'000U);
}

TEST_F(RunnerTest, TraceIsTheLastThingWritten) {
  scenario.trace = true;
  scenario.timeline = {op(0, OpKind::kSample, "x"), op(5'000, OpKind::kEnd)};
  run();
  EXPECT_EQ(hypervisor.calls[2], "start_trace");
  EXPECT_EQ(hypervisor.calls.back(), "stop_trace");
  ASSERT_EQ(sink.lines.size(), 8U);
  EXPECT_EQ(sink.lines[3]["r"], "sample");
  EXPECT_EQ(sink.lines[4]["r"], "trace_clock");
  EXPECT_LT(sink.lines[4]["t_ns"], sink.lines[3]["t_ns"]);
  EXPECT_GE(sink.lines[5]["t_ns"], 5'000);
  EXPECT_LT(sink.lines[4]["tsc"], sink.lines[5]["tsc"]);
  EXPECT_EQ(sink.lines[6], Json({{"r", "trace"}, {"pcpu", 0}, {"data", "Zg=="}}));
  EXPECT_EQ(sink.lines[7]["data"], "");
}

TEST_F(RunnerTest, TraceThatFailsIsAnError) {
  scenario.trace = true;
  scenario.timeline = {op(0, OpKind::kEnd)};
  hypervisor.refusals["stop_trace"] = ENOBUFS;
  run();
  EXPECT_EQ(records.errors(), 1U);
  hypervisor.refusals = {{"start_trace", ENOMEM}};
  run();
  EXPECT_EQ(records.errors(), 2U);
  EXPECT_EQ(last()["errno"], "ENOMEM");
}

TEST_F(RunnerTest, RefusalIsARecordAndNoMore) {
  hypervisor.refusals["join 1 2"] = EBUSY;
  scenario.timeline = {op(0, OpKind::kJoin, "a", "b"), op(1, OpKind::kSample, "x"),
                       op(2, OpKind::kEnd)};
  run();
  EXPECT_EQ(sink.lines[3]["errno"], "EBUSY");
  EXPECT_EQ(last()["r"], "sample");
  EXPECT_TRUE(last()["groups"].empty());
  EXPECT_EQ(records.errors(), 0U);
}

TEST_F(RunnerTest, SampleShowsDomainsGuestsAndGroups) {
  scenario.domains[1].vcpus = 2;
  scenario.timeline = {op(0, OpKind::kJoin, "a", "b"), op(1'000, OpKind::kSample, "grouped/0"),
                       op(2'000, OpKind::kEnd)};
  auto runner = Runner::create(scenario, images, hypervisor, clock, records);
  ASSERT_TRUE(runner);
  GuestReport report{};
  report.work = 42;
  publish(hypervisor.pages[2]->slots[1], report);
  runner->run();
  EXPECT_EQ(last()["i"], 1);
  EXPECT_EQ(last()["label"], "grouped/0");
  EXPECT_EQ(last()["due_ns"], 1'020);
  EXPECT_EQ(last()["t_ns"], 1'030);
  EXPECT_EQ(last()["span_ns"], 10);
  ASSERT_EQ(last()["domains"].size(), 3U);
  EXPECT_EQ(last()["domains"][0]["name"], "dom0");
  EXPECT_EQ(last()["domains"][1]["cpu_ns"], 100);
  EXPECT_EQ(last()["domains"][1]["guest"].size(), 1U);
  EXPECT_EQ(last()["domains"][2]["guest"][1]["work"], 42);
  ASSERT_EQ(last()["groups"].size(), 1U);
  EXPECT_EQ(last()["groups"][0]["master"], "a");
  EXPECT_EQ(last()["groups"][0]["domains"][1]["name"], "b");
}

TEST_F(RunnerTest, SampleDuringWhichDom0LostItsCpuIsTakenAgain) {
  scenario.timeline = {op(0, OpKind::kSample, "calm"), op(1'000, OpKind::kSample, "preempted"),
                       op(2'000, OpKind::kEnd)};
  int samples = 0;
  hypervisor.on_usage = [&] {
    if (++samples == 3) clock.now += 7'000;  // two for the first, which has nothing to compare with
  };
  run();
  EXPECT_EQ(samples, 4);
  EXPECT_EQ(last()["label"], "preempted");
  EXPECT_EQ(last()["span_ns"], 10);
  EXPECT_GT(last()["t_ns"], 8'000);
}

// Operations that took dom0 longer than they should have are given their time to settle all the
// same, and all that follows comes later.
TEST_F(RunnerTest, WhatFollowsLateOperationsWaits) {
  scenario.timeline = {op(0, OpKind::kStart, "a"),     op(0, OpKind::kStart, "b"),
                       op(100, OpKind::kSample, "x"),  op(1'100, OpKind::kSample, "y"),
                       op(1'100, OpKind::kPause, "a"), op(1'200, OpKind::kSample, "z"),
                       op(2'200, OpKind::kEnd)};
  const std::uint64_t late_ns = 5'000;
  hypervisor.on_unpause = [&] { clock.now += late_ns; };
  run();
  std::map<std::string, std::pair<std::uint64_t, std::uint64_t>> seen;
  for (const Json& line : sink.lines) {
    if (line["r"] == "sample") seen[line["label"]] = {line["due_ns"], line["t_ns"]};
  }
  EXPECT_GE(seen["x"].first, 2 * late_ns + 100);
  EXPECT_EQ(seen["y"].first, seen["x"].first + 1'000);
  EXPECT_GE(seen["z"].first, seen["y"].first + 100);
  EXPECT_LT(seen["z"].first, seen["y"].first + 200) << "a pause takes no time here";
  for (const auto& [label, times] : seen) EXPECT_GE(times.second, times.first) << label;
}

// Among busy pCPUs an attempt takes longer, and is as good as the next.
TEST_F(RunnerTest, SampleThatTakesAsLongAgainIsKept) {
  scenario.timeline = {op(0, OpKind::kSample, "calm"), op(1'000, OpKind::kSample, "busy"),
                       op(2'000, OpKind::kEnd)};
  int samples = 0;
  const int longer_by[] = {0, 0, 7'000, 300, 300};
  hypervisor.on_usage = [&] { clock.now += longer_by[samples++]; };
  run();
  EXPECT_EQ(samples, 5) << "two were not alike, the next two were";
  EXPECT_EQ(last()["span_ns"], 310);
}

// The page is of the moment of the usage, not of some ms later.
TEST_F(RunnerTest, SampleIsTakenAgainWhenTheGuestsWereReadLate) {
  scenario.timeline = {op(0, OpKind::kSample, "calm"), op(1'000, OpKind::kSample, "late"),
                       op(2'000, OpKind::kEnd)};
  int looks = 0;
  hypervisor.on_page = [&] {
    if (++looks == 2 * 3 + 2) clock.now += 7'000;
  };
  run();
  EXPECT_EQ(looks, 4 * 3);
  EXPECT_EQ(last()["span_ns"], 10);
  EXPECT_GT(last()["t_ns"], 8'000);
}

TEST_F(RunnerTest, DissolvedGroupIsAbsentAndNoError) {
  scenario.timeline = {op(0, OpKind::kJoin, "a", "b"), op(1, OpKind::kDissolve, "a"),
                       op(2, OpKind::kSample, "x"), op(3, OpKind::kEnd)};
  run();
  EXPECT_TRUE(last()["groups"].empty());
  EXPECT_EQ(records.errors(), 0U);
}

TEST_F(RunnerTest, KilledDomainIsGone) {
  scenario.timeline = {op(0, OpKind::kKill, "a"), op(1, OpKind::kSample, "x"), op(2, OpKind::kEnd)};
  run();
  EXPECT_EQ(last()["domains"][1]["state"], "gone");
  EXPECT_TRUE(last()["domains"][1]["cpu_ns"].is_null());
  EXPECT_EQ(last()["domains"][2]["state"], "runnable");
}

TEST_F(RunnerTest, ParametersReachTheHypervisor) {
  TimelineOp cap = op(0, OpKind::kCap, "a");
  cap.cap_percent = 33;
  TimelineOp weight = op(0, OpKind::kWeight, "dom0");
  weight.weight = 99;
  TimelineOp affinity = op(0, OpKind::kAffinity, "b");
  affinity.pcpus = {{0, 2}};
  TimelineOp share = op(0, OpKind::kShare, "a", "b");
  share.weight = 3;
  TimelineOp vcpus = op(0, OpKind::kVcpus, "b");
  vcpus.vcpus = 4;
  scenario.timeline = {cap,
                       weight,
                       affinity,
                       op(0, OpKind::kAffinity, "b"),
                       share,
                       op(0, OpKind::kLeave, "a", "b"),
                       vcpus,
                       op(0, OpKind::kShutdown, "a"),
                       op(0, OpKind::kEnd)};
  run();
  EXPECT_EQ((std::vector<std::string>(hypervisor.calls.begin() + 2, hypervisor.calls.end())),
            (std::vector<std::string>{"cap 1 33", "weight 0 99", "affinity 2 2", "affinity 2 any",
                                      "share 1 2 3", "leave 1 2", "vcpus 2 4", "shutdown 1"}));
}

TEST_F(RunnerTest, PoolsAreFoundByName) {
  TimelineOp create;
  create.kind = OpKind::kPool;
  create.pool = "p";
  create.scheduler = "null";
  create.pcpus = {{1, 2}};
  const auto in_pool = [](OpKind kind, const std::string& pool, const std::string& domain) {
    TimelineOp one;
    one.kind = kind;
    one.pool = pool;
    one.domain = domain;
    one.pcpu = 3;
    return one;
  };
  scenario.timeline = {in_pool(OpKind::kMove, "p", "a"),
                       create,
                       in_pool(OpKind::kMove, "p", "a"),
                       in_pool(OpKind::kPoolAdd, "p", ""),
                       in_pool(OpKind::kPoolRemove, "p", ""),
                       in_pool(OpKind::kMove, "pool0", "a"),
                       in_pool(OpKind::kPoolDestroy, "p", ""),
                       in_pool(OpKind::kMove, "p", "a"),
                       op(0, OpKind::kEnd)};
  run();
  EXPECT_EQ((std::vector<std::string>(hypervisor.calls.begin() + 2, hypervisor.calls.end())),
            (std::vector<std::string>{"pool null 2", "move 1 7", "pool_add 7 3", "pool_remove 7 3",
                                      "move 1 0", "pool_destroy 7"}));
  EXPECT_EQ(last()["errno"], "ENOENT");
}

TEST_F(RunnerTest, ADomctlIsSentAsItIs) {
  TimelineOp raw;
  raw.kind = OpKind::kDomctl;
  raw.master = "a";
  raw.member = "xen";
  raw.raw = {.cmd = 3, .flags = 1, .pad = 2, .weight = 0, .room = 2};
  TimelineOp kill = op(0, OpKind::kKill, "b");
  kill.keep = true;
  scenario.timeline = {kill, raw, op(0, OpKind::kEnd)};
  hypervisor.refusals["domctl 3 1 32754 1 2 2"] = ENOBUFS;
  run();
  EXPECT_EQ((std::vector<std::string>(hypervisor.calls.begin() + 2, hypervisor.calls.end())),
            (std::vector<std::string>{"destroy 2 keep", "domctl 3 1 32754 1 2 2"}));
  EXPECT_EQ(last()["errno"], "ENOBUFS");
  EXPECT_EQ(last()["count"], 3);
  EXPECT_EQ(last()["written"], 2);
}

// Writing costs dom0 time that would be measured.
TEST_F(RunnerTest, NothingIsWrittenBeforeTheTimelineEnds) {
  scenario.timeline = {op(0, OpKind::kSample, "x"), op(1, OpKind::kStart, "a"),
                       op(2, OpKind::kEnd)};
  clock.on_sleep = [&] { EXPECT_EQ(sink.lines.size(), 3U); };
  run();
  EXPECT_EQ(sink.lines.size(), 5U);
}

TEST_F(RunnerTest, SampleThatFailsIsAnErrorRecord) {
  hypervisor.refusals["usage"] = EFAULT;
  scenario.timeline = {op(0, OpKind::kSample, "x"), op(1, OpKind::kEnd)};
  run();
  EXPECT_EQ(last()["r"], "error");
  EXPECT_EQ(last()["errno"], "EFAULT");
  EXPECT_EQ(records.errors(), 1U);
}

TEST_F(RunnerTest, CreationFailureStopsEverything) {
  hypervisor.refusals["create b 7"] = ENOMEM;
  scenario.timeline = {op(0, OpKind::kEnd)};
  const auto runner = Runner::create(scenario, images, hypervisor, clock, records);
  ASSERT_FALSE(runner);
  EXPECT_EQ(runner.error().errnum, ENOMEM);
}

TEST_F(RunnerTest, PeersAreConnected) {
  scenario.domains[1].peer = scenario.domains[0].name;
  scenario.timeline = {op(0, OpKind::kEnd)};
  ASSERT_TRUE(Runner::create(scenario, images, hypervisor, clock, records));
  EXPECT_EQ(hypervisor.calls.back(), "connect 2 1");
}

TEST_F(RunnerTest, PeersThatCannotBeConnectedStopEverything) {
  scenario.domains[1].peer = scenario.domains[0].name;
  hypervisor.refusals["connect 2 1"] = ENOSPC;
  const auto runner = Runner::create(scenario, images, hypervisor, clock, records);
  ASSERT_FALSE(runner);
  EXPECT_EQ(runner.error().errnum, ENOSPC);
}

TEST_F(RunnerTest, AStubIsGivenItsTarget) {
  scenario.domains[1].stub_of = scenario.domains[0].name;
  scenario.timeline = {op(0, OpKind::kEnd)};
  ASSERT_TRUE(Runner::create(scenario, images, hypervisor, clock, records));
  EXPECT_EQ(hypervisor.calls.back(), "set_target 2 1");
  hypervisor.refusals["set_target 4 3"] = EPERM;
  const auto refused = Runner::create(scenario, images, hypervisor, clock, records);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().errnum, EPERM);
}

TEST_F(RunnerTest, ADevicePageIsReadWhereItIsInUse) {
  scenario.timeline = {op(0, OpKind::kSample), op(0, OpKind::kEnd)};
  auto runner = Runner::create(scenario, images, hypervisor, clock, records);
  ASSERT_TRUE(runner);
  hypervisor.devices[1].counts.started = 7;
  hypervisor.devices[2].counts.started = 8;
  hypervisor.devices[2].format = kDeviceFormat;
  runner->run();
  const Json sample = last();
  EXPECT_FALSE(sample["domains"][1].contains("device"));
  EXPECT_EQ(sample["domains"][2]["device"]["started"], 8);
}

TEST_F(RunnerTest, MissingImageStopsEverything) {
  images = [](const std::string& name) -> Result<std::vector<std::byte>> {
    return Error{ENOENT, name};
  };
  scenario.timeline = {op(0, OpKind::kEnd)};
  const auto runner = Runner::create(scenario, images, hypervisor, clock, records);
  ASSERT_FALSE(runner);
  EXPECT_EQ(runner.error().what, "burner-pv");
}

}  // namespace
}  // namespace nemesis
