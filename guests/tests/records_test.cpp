// SPDX-License-Identifier: GPL-2.0-only
#include "records.hpp"

#include <gtest/gtest.h>

#include <cerrno>

namespace nemesis {
namespace {

class StringSink final : public LineSink {
 public:
  std::string text;
  void write(std::string_view line) override { text += line; }
};

class Records : public testing::Test {
 protected:
  StringSink sink;
  RecordWriter records{sink};
};

TEST_F(Records, Hello) {
  records.hello({.xen_version = "4.17.5",
                 .xen_build = "ab12",
                 .scheduler = "credit2",
                 .pcpus = 4,
                 .cpu_khz = 1000000,
                 .total_kib = 1048576});
  EXPECT_EQ(
      sink.text,
      R"({"r":"hello","format":2,"xen_version":"4.17.5","xen_build":"ab12","scheduler":"credit2","pcpus":4,)"
      R"("cpu_khz":1000000,"total_kib":1048576})"
      "\n");
}

TEST_F(Records, TraceInLinesOfWholeBytes) {
  records.trace({.pcpu = 1, .records = std::vector<std::byte>(48 * 1024 + 1)});
  const std::string first = R"({"r":"trace","pcpu":1,"data":"AAAA)";
  EXPECT_EQ(sink.text.substr(0, first.size()), first);
  EXPECT_NE(sink.text.find("AA\"}\n{\"r\""), std::string::npos);
  EXPECT_EQ(sink.text.substr(sink.text.size() - 7), "AA==\"}\n");
}

TEST_F(Records, Program) {
  records.program(1, "a\n\"b\"");
  EXPECT_EQ(sink.text, R"({"r":"program","status":1,"output":"a\n\"b\""})"
                       "\n");
}

TEST_F(Records, SmallOnes) {
  records.ready(1);
  records.domain({.name = "a",
                  .image = "burner-pv",
                  .vcpus = 2,
                  .affinity = {},
                  .peer = {},
                  .label = {},
                  .stub_of = {}},
                 3, {.cap_percent = 10, .weight = 256});
  records.scenario("x", 18446744073709551615ULL);
  records.end();
  EXPECT_EQ(
      sink.text,
      R"({"r":"ready","t_ns":1})"
      "\n"
      R"({"r":"domain","name":"a","domid":3,"image":"burner-pv","vcpus":2,"cap_percent":10,"weight":256})"
      "\n"
      R"({"r":"scenario","name":"x","t0_ns":18446744073709551615})"
      "\n"
      R"({"r":"end","errors":0})"
      "\n");
}

TEST_F(Records, ErrnoIsZeroOrASymbol) {
  records.op(
      {.index = 2, .kind = OpKind::kJoin, .t_ns = 5, .done_ns = 6, .errnum = 0, .answer = {}});
  records.op(
      {.index = 3, .kind = OpKind::kLeave, .t_ns = 7, .done_ns = 8, .errnum = EBUSY, .answer = {}});
  EXPECT_EQ(sink.text, R"({"r":"op","i":2,"op":"join","t_ns":5,"done_ns":6,"errno":0})"
                       "\n"
                       R"({"r":"op","i":3,"op":"leave","t_ns":7,"done_ns":8,"errno":"EBUSY"})"
                       "\n");
  EXPECT_EQ(errno_symbol(EOPNOTSUPP), "EOPNOTSUPP");
  EXPECT_EQ(errno_symbol(ENOBUFS), "ENOBUFS");
  EXPECT_EQ(errno_symbol(4321), "E4321");
}

TEST_F(Records, ErrorsAreCounted) {
  records.error({ENOENT, "no \"image\"\n"});
  records.error({0, "bytes \xff of no text"});
  records.end();
  EXPECT_EQ(sink.text, R"({"r":"error","what":"no \"image\"\n","errno":"ENOENT"})"
                       "\n"
                       "{\"r\":\"error\",\"what\":\"bytes \xEF\xBF\xBD of no text\",\"errno\":0}\n"
                       R"({"r":"end","errors":2})"
                       "\n");
}

TEST_F(Records, Sample) {
  Sample sample;
  sample.index = 1;
  sample.label = "alone/0";
  sample.t_ns = 10;
  sample.due_ns = 9;
  sample.span_ns = 2;
  DomainSample dom0{
      .name = "dom0", .usage = {.id = 0, .cpu_ns = 99, .state = "running"}, .guest = {}};
  DomainSample crashed{.name = "a",
                       .usage = {.id = 1, .cpu_ns = 7, .state = "crashed"},
                       .failure = GuestFailure::kRunstate,
                       .guest = {{.work = 1,
                                  .clock_ns = 2,
                                  .ran_ns = 3,
                                  .slices = 4,
                                  .gap_ns = 5,
                                  .longest_gap_ns = 6,
                                  .runstate_ns = {7, 8, 9, 10},
                                  .idle_ns = 11,
                                  .wakes = 12,
                                  .late_ns = 13,
                                  .longest_late_ns = 14}}};
  DomainSample gone{
      .name = "b", .usage = {.id = 2, .cpu_ns = 0, .state = {}}, .gone = true, .guest = {}};
  sample.domains = {dom0, crashed, gone};
  GroupSample group{.master = "a",
                    .usage = {.master = 1,
                              .now_ns = 11,
                              .cap_percent = 10,
                              .weight = 256,
                              .usage_ns = 12,
                              .nr_periods = 13,
                              .nr_throttled = 14,
                              .throttled_ns = 15,
                              .domains = {{.id = 1,
                                           .weight = 0,
                                           .usage_ns = 16,
                                           .nr_periods = 17,
                                           .nr_throttled = 18,
                                           .throttled_ns = 19}}},
                    .names = {"a"}};
  sample.groups = {group};
  records.sample(sample);
  EXPECT_EQ(
      sink.text,
      R"({"r":"sample","i":1,"label":"alone/0","due_ns":9,"t_ns":10,"span_ns":2,"domains":[)"
      R"({"name":"dom0","domid":0,"cpu_ns":99,"state":"running","guest":[]},)"
      R"({"name":"a","domid":1,"cpu_ns":7,"state":"crashed","guest_failure":3,"guest":[)"
      R"({"work":1,"clock_ns":2,"ran_ns":3,"slices":4,"gap_ns":5,"longest_gap_ns":6,)"
      R"("idle_ns":11,"wakes":12,"late_ns":13,"longest_late_ns":14,)"
      R"("runstate":{"running_ns":7,"runnable_ns":8,"blocked_ns":9,"offline_ns":10}}]},)"
      R"({"name":"b","domid":2,"cpu_ns":null,"state":"gone","guest":[]}],)"
      R"("groups":[{"master":"a","now_ns":11,"cap_percent":10,"weight":256,"usage_ns":12,"nr_periods":13,)"
      R"("nr_throttled":14,"throttled_ns":15,"domains":[{"name":"a","domid":1,"weight":0,"usage_ns":16,)"
      R"("nr_throttled":18,"throttled_ns":19,"nr_periods":17}]}]})"
      "\n");
}

TEST_F(Records, DeviceOfASample) {
  DevicePage device{};
  device.format = kDeviceFormat;
  device.counts.started = 4;
  device.counts.worst_ns = 5000;
  device.counts.rejected = 1;
  add(device.latency, 1500);
  add(device.latency, 1600);
  add(device.latency, 5000);
  add(device.clock_latency, 0);
  Sample sample;
  sample.domains = {{.name = "a",
                     .usage = {},
                     .guest = {},
                     .device = std::make_shared<const DevicePage>(device)}};
  records.sample(sample);
  EXPECT_NE(
      sink.text.find(
          R"("device":{"started":4,"written":0,"verified":0,"corrupt":0,"lost":0,"refused":0,)"
          R"("wrong":0,"unanswered":0,"connected":0,"clock_wrong":0,"waited_ns":0,)"
          R"("worst_ns":5000,"accesses":0,"served":0,"rejected":1,)"
          R"("latency":[[2048,2],[5120,1]],"clock_latency":[[1024,1]]}})"),
      std::string::npos)
      << sink.text;
}

}  // namespace
}  // namespace nemesis
