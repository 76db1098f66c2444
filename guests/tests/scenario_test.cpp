// SPDX-License-Identifier: GPL-2.0-only
#include "scenario.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <ostream>

namespace nemesis {
namespace {

using Json = nlohmann::json;

Json good() {
  return Json::parse(R"({
    "format": 1, "name": "ten_percent", "seed": 1,
    "domains": [
      {"name": "master", "kind": "pv", "image": "burner-pv", "vcpus": 2, "memory_kib": 8192,
       "cap_percent": 10, "weight": 512, "affinity": [0, 1],
       "peer": null, "label": null,
       "guest": {"gap_threshold_ns": 300000, "chunk_iterations": 2000, "period_ns": 0, "run_ns": 0,
                 "phase_ns": 0}},
      {"name": "second", "kind": "pv", "image": "burner-pv", "vcpus": 1, "memory_kib": 8192,
       "cap_percent": 0, "weight": 256, "affinity": null,
       "peer": null, "label": null,
       "guest": {"gap_threshold_ns": 300000, "chunk_iterations": 2000, "period_ns": 0, "run_ns": 0,
                 "phase_ns": 0}}],
    "timeline": [
      {"t_ns": 0, "op": "start", "domain": "master"},
      {"t_ns": 0, "op": "sample", "label": "alone/0"},
      {"t_ns": 5, "op": "join", "master": "master", "member": "second"},
      {"t_ns": 5, "op": "leave", "master": "master", "member": "second"},
      {"t_ns": 5, "op": "join", "master": "dom0", "member": "second"},
      {"t_ns": 6, "op": "dissolve", "master": "dom0"},
      {"t_ns": 6, "op": "cap", "domain": "dom0", "cap_percent": 400},
      {"t_ns": 6, "op": "weight", "domain": "second", "weight": 65535},
      {"t_ns": 6, "op": "affinity", "domain": "second", "pcpus": [3]},
      {"t_ns": 7, "op": "pause", "domain": "second"},
      {"t_ns": 7, "op": "unpause", "domain": "second"},
      {"t_ns": 8, "op": "kill", "domain": "second"},
      {"t_ns": 8, "op": "share", "master": "master", "member": "second", "weight": 512},
      {"t_ns": 8, "op": "vcpus", "domain": "master", "vcpus": 1},
      {"t_ns": 8, "op": "shutdown", "domain": "second"},
      {"t_ns": 9, "op": "end"}]})");
}

TEST(Scenario, OfADevice) {
  Json json = good();
  json["domains"][0]["kind"] = "hvm";
  json["domains"][0]["guest"]["malformed_every"] = 7;
  json["domains"][1]["stub_of"] = "master";
  json["domains"][1]["guest"]["cost_ns"] = 20000;
  json["domains"][1]["guest"]["block_bytes"] = 4096;
  const auto scenario = parse_scenario(json.dump());
  ASSERT_TRUE(scenario) << scenario.error().what;
  EXPECT_EQ(scenario->domains[0].malformed_every, 7U);
  EXPECT_EQ(scenario->domains[0].stub_of, "");
  EXPECT_EQ(scenario->domains[1].stub_of, "master");
  EXPECT_EQ(scenario->domains[1].cost_ns, 20000U);
  EXPECT_EQ(scenario->domains[1].block_bytes, 4096U);
  json["domains"][1]["kind"] = "pvh";
  const auto refused = parse_scenario(json.dump());
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().what.find("domains[1].kind"), std::string::npos);
}

TEST(Scenario, EveryOpAndKeyIsRead) {
  const auto scenario = parse_scenario(good().dump());
  ASSERT_TRUE(scenario) << scenario.error().what;
  EXPECT_EQ(scenario->name, "ten_percent");
  EXPECT_EQ(scenario->seed, 1U);
  ASSERT_EQ(scenario->domains.size(), 2U);
  const DomainSpec& master = scenario->domains[0];
  EXPECT_EQ(master.name, "master");
  EXPECT_EQ(master.image, "burner-pv");
  EXPECT_EQ(master.vcpus, 2U);
  EXPECT_EQ(master.memory_kib, 8192U);
  EXPECT_EQ(master.cap_percent, 10);
  EXPECT_EQ(master.weight, 512);
  EXPECT_EQ(master.affinity, (std::vector<std::uint32_t>{0, 1}));
  EXPECT_EQ(master.gap_threshold_ns, 300'000U);
  EXPECT_EQ(master.chunk_iterations, 2000U);
  EXPECT_FALSE(scenario->domains[1].affinity);

  ASSERT_EQ(scenario->timeline.size(), 16U);
  EXPECT_EQ(scenario->timeline[1].label, "alone/0");
  EXPECT_EQ(scenario->timeline[2].kind, OpKind::kJoin);
  EXPECT_EQ(scenario->timeline[2].member, "second");
  EXPECT_EQ(scenario->timeline[4].master, "dom0");
  EXPECT_EQ(scenario->timeline[6].cap_percent, 400);
  EXPECT_EQ(scenario->timeline[7].weight, 65535);
  EXPECT_EQ(scenario->timeline[8].pcpus, (std::vector<std::uint32_t>{3}));
  EXPECT_EQ(scenario->timeline[12].kind, OpKind::kShare);
  EXPECT_EQ(scenario->timeline[12].member, "second");
  EXPECT_EQ(scenario->timeline[12].weight, 512);
  EXPECT_EQ(scenario->timeline[13].kind, OpKind::kVcpus);
  EXPECT_EQ(scenario->timeline[13].vcpus, 1U);
  EXPECT_EQ(scenario->timeline[14].domain, "second");
  EXPECT_EQ(scenario->timeline[15].kind, OpKind::kEnd);
  EXPECT_EQ(scenario->timeline[15].t_ns, 9U);
}

TEST(Scenario, NamesOfOpsGoBothWays) {
  const auto scenario = parse_scenario(good().dump());
  ASSERT_TRUE(scenario);
  const Json json = good();
  for (std::size_t i = 0; i < scenario->timeline.size(); ++i) {
    EXPECT_EQ(name_of(scenario->timeline[i].kind), json["timeline"][i]["op"].get<std::string>());
  }
}

struct BadCase {
  const char* pointer;  ///< what to set
  const char* value;    ///< JSON; empty: remove the key
  const char* key;      ///< what the message must name
};

void PrintTo(const BadCase& bad, std::ostream* out) {
  *out << bad.pointer << " = " << bad.value;
}

TEST(Scenario, TraceAndProgram) {
  Json json = good();
  EXPECT_FALSE(parse_scenario(json.dump())->trace);
  EXPECT_FALSE(parse_scenario(json.dump())->program);
  json["trace"] = 1;
  json["program"] = Json::parse(R"({"words": ["/bench", "--stock"], "echo": "second"})");
  const auto scenario = parse_scenario(json.dump());
  ASSERT_TRUE(scenario) << scenario.error().what;
  EXPECT_TRUE(scenario->trace);
  EXPECT_EQ(scenario->program->words, (std::vector<std::string>{"/bench", "--stock"}));
  EXPECT_EQ(scenario->program->echo, "second");
}

class BadScenario : public testing::TestWithParam<BadCase> {};

TEST_P(BadScenario, NamesTheKey) {
  const BadCase& bad = GetParam();
  Json json = good();
  const Json::json_pointer pointer(bad.pointer);
  if (*bad.value == '\0') {
    json[pointer.parent_pointer()].erase(pointer.back());
  } else {
    json[pointer] = Json::parse(bad.value);
  }
  const auto scenario = parse_scenario(json.dump());
  ASSERT_FALSE(scenario);
  EXPECT_EQ(scenario.error().what.rfind("scenario: " + std::string(bad.key) + ":", 0), 0U)
      << scenario.error().what;
}

INSTANTIATE_TEST_SUITE_P(
    Scenario, BadScenario,
    testing::Values(
        BadCase{"/format", "2", "format"}, BadCase{"/format", "", "format"},
        BadCase{"/name", "7", "name"}, BadCase{"/seed", "-1", "seed"},
        BadCase{"/extra", "1", "extra"}, BadCase{"/trace", "true", "trace"},
        BadCase{"/program", "{}", "program.words"},
        BadCase{"/program", R"({"words": []})", "program.words"},
        BadCase{"/program", R"({"words": [1]})", "program.words"},
        BadCase{"/program", R"({"words": ["/x"], "echo": "dom0"})", "program.echo"},
        BadCase{"/program", R"({"words": ["/x"], "stdin": 1})", "program.stdin"},
        BadCase{"/domains", "{}", "domains"}, BadCase{"/domains/0", "1", "domains[0]"},
        BadCase{"/domains/0/name", "\"dom0\"", "domains[0].name"},
        BadCase{"/domains/1/name", "\"master\"", "domains[1].name"},
        BadCase{"/domains/0/kind", "\"vm\"", "domains[0].kind"},
        BadCase{"/domains/0/peer", "\"second\"", "domains[0].peer"},
        BadCase{"/domains/0/stub_of", "\"second\"", "domains[0].stub_of"},
        BadCase{"/domains/1/stub_of", "\"\"", "domains[1].stub_of"},
        BadCase{"/domains/1/guest/cost_ns", "-1", "domains[1].guest.cost_ns"},
        BadCase{"/domains/1/guest/block_bytes", "4097", "domains[1].guest.block_bytes"},
        BadCase{"/domains/1/guest/malformed_every", "\"x\"", "domains[1].guest.malformed_every"},
        BadCase{"/domains/0/peer", "1", "domains[0].peer"},
        BadCase{"/domains/0/label", "1", "domains[0].label"},
        BadCase{"/domains/0/image", "\"\"", "domains[0].image"},
        BadCase{"/domains/0/vcpus", "0", "domains[0].vcpus"},
        BadCase{"/domains/0/vcpus", "16", "domains[0].vcpus"},
        BadCase{"/domains/0/vcpus", "1.5", "domains[0].vcpus"},
        BadCase{"/domains/0/vcpus", "\"1\"", "domains[0].vcpus"},
        BadCase{"/domains/0/memory_kib", "1024", "domains[0].memory_kib"},
        BadCase{"/domains/0/memory_kib", "8193", "domains[0].memory_kib"},
        BadCase{"/domains/0/cap_percent", "-10", "domains[0].cap_percent"},
        BadCase{"/domains/0/cap_percent", "65535", "domains[0].cap_percent"},
        BadCase{"/domains/0/cap_percent", "4294967306", "domains[0].cap_percent"},
        BadCase{"/domains/0/weight", "0", "domains[0].weight"},
        BadCase{"/domains/0/weight", "65536", "domains[0].weight"},
        BadCase{"/domains/0/affinity", "[]", "domains[0].affinity"},
        BadCase{"/domains/0/affinity", "[0, -1]", "domains[0].affinity[1]"},
        BadCase{"/domains/0/affinity", "", "domains[0].affinity"},
        BadCase{"/domains/0/colour", "1", "domains[0].colour"},
        BadCase{"/domains/0/guest/gap_threshold_ns", "0", "domains[0].guest.gap_threshold_ns"},
        BadCase{"/domains/0/guest/chunk_iterations", "true", "domains[0].guest.chunk_iterations"},
        BadCase{"/domains/0/guest/x", "1", "domains[0].guest.x"},
        BadCase{"/timeline", "[]", "timeline"},
        BadCase{"/timeline/0/t_ns", "-1", "timeline[0].t_ns"},
        BadCase{"/timeline/1/t_ns", "6", "timeline[2].t_ns"},
        BadCase{"/timeline/0/op", "\"dance\"", "timeline[0].op"},
        BadCase{"/timeline/0/op", "\"end\"", "timeline[0].domain"},
        BadCase{"/timeline/0/domain", "\"third\"", "timeline[0].domain"},
        BadCase{"/timeline/0/domain", "\"dom0\"", "timeline[0].domain"},
        BadCase{"/timeline/0/label", "\"x\"", "timeline[0].label"},
        BadCase{"/timeline/2/member", "", "timeline[2].member"},
        BadCase{"/timeline/6/cap_percent", "65535", "timeline[6].cap_percent"},
        BadCase{"/timeline/7/weight", "0", "timeline[7].weight"},
        BadCase{"/timeline/8/pcpus", "3", "timeline[8].pcpus"},
        BadCase{"/timeline/12/weight", "65536", "timeline[12].weight"},
        BadCase{"/timeline/13/vcpus", "0", "timeline[13].vcpus"},
        BadCase{"/timeline/13/vcpus", "16", "timeline[13].vcpus"},
        BadCase{"/timeline/14/domain", "\"dom0\"", "timeline[14].domain"},
        BadCase{"/timeline/15", R"({"t_ns": 9, "op": "sample", "label": "x"})", "timeline"}));

TEST(Scenario, NothingFollowsTheEnd) {
  Json json = good();
  json["timeline"].push_back({{"t_ns", 9}, {"op", "end"}});
  const auto scenario = parse_scenario(json.dump());
  ASSERT_FALSE(scenario);
  EXPECT_NE(scenario.error().what.find("timeline[15].op"), std::string::npos);
}

TEST(Scenario, WhatIsNotJsonIsSaidToBe) {
  for (const char* text : {"", "none", "{", "[1]", "{\"format\":1}\xff"})
    EXPECT_FALSE(parse_scenario(text)) << text;
  EXPECT_NE(parse_scenario("{").error().what.find("not JSON"), std::string::npos);
}

}  // namespace
}  // namespace nemesis
