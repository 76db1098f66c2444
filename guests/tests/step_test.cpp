// SPDX-License-Identifier: GPL-2.0-only
#include "step.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace nemesis {
namespace {

Step shell(const std::string& script) {
  std::vector<std::string> said = {"/bin/sh", "-c", script};
  std::vector<char*> words = {said[0].data(), said[1].data(), said[2].data()};
  auto step = run_step(words);
  EXPECT_TRUE(step) << step.error().what;
  return *step;
}

TEST(LabctlStep, KeepsBothOutputsAndTheStatus) {
  const Step step = shell("echo out; echo err >&2; exit 3");
  EXPECT_EQ(step.out, "out\n");
  EXPECT_EQ(step.err, "err\n");
  EXPECT_EQ(step.status, 3);
}

TEST(LabctlStep, ASignalIsAStatus) {
  EXPECT_EQ(shell("kill -9 $$").status, 128 + SIGKILL);
}

TEST(LabctlStep, WhatCannotBeStartedSaysSo) {
  std::string name = "/no/such/program";
  std::vector<char*> words = {name.data()};
  const auto step = run_step(words);
  ASSERT_TRUE(step);
  EXPECT_EQ(step->status, 127);
  EXPECT_EQ(step->err, "/no/such/program: No such file or directory\n");
  EXPECT_FALSE(run_step({}));
}

TEST(LabctlStep, TakesMoreThanAPipeHolds) {
  EXPECT_EQ(shell("head -c 300000 /dev/zero").out.size(), 300000U);
}

TEST(LabctlStep, InputIsEmpty) {
  EXPECT_EQ(shell("cat; echo end").out, "end\n");
}

TEST(LabctlStep, DoesNotWaitForWhatIsLeftBehind) {
  // A daemon keeps the pipes open; the kill ends it.
  const Step step = shell("sleep 60 & echo $!");
  EXPECT_EQ(step.status, 0);
  EXPECT_EQ(kill(std::stoi(step.out), SIGKILL), 0);
}

TEST(LabctlStep, ARecordIsOneLineOfJson) {
  const std::string line = step_record("a", Step{"two\nlines\n", "\xff", 1});
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  const auto record = nlohmann::json::parse(line);
  EXPECT_EQ(record["type"], "step");
  EXPECT_EQ(record["name"], "a");
  EXPECT_EQ(record["stdout"], "two\nlines\n");
  EXPECT_EQ(record["stderr"], "\xEF\xBF\xBD");
  EXPECT_EQ(record["status"], 1);
}

}  // namespace
}  // namespace nemesis
