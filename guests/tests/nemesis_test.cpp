// SPDX-License-Identifier: GPL-2.0-only
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "command_line.hpp"
#include "commands.hpp"
#include "domains.hpp"
#include "report.hpp"
#include "sentences.hpp"

namespace nemesis {
namespace {

/// A hypervisor that keeps to the contract's errors, in its order, and whose time is the test's.
class FakeHost : public Host {
 public:
  std::vector<Domain> present = {domain(0, "Domain-0"), domain(3, "web"), domain(4, "web-dm"),
                                 domain(7, "backup")};
  std::map<DomainId, Group> made;  // by master
  std::map<DomainId, std::uint32_t> caps;
  std::map<DomainId, std::string> notes;
  std::set<DomainId> refuses_notes;
  int everything_is = 0;  // the errno of every call, where not 0
  bool same_interface = true;
  std::vector<std::string> calls;  // those that change anything
  std::uint64_t now_ns = 1'000'000'000;
  std::function<void()> while_asleep;

  FakeHost() { present[2].stub_of = 3; }

  static Domain domain(DomainId id, std::string name) {
    Domain made;
    made.id = id;
    made.name = std::move(name);
    made.scheduler = "credit2";
    return made;
  }
  Domain& of(DomainId id) { return *std::ranges::find(present, id, &Domain::id); }
  Group* group_of(DomainId id) {
    for (auto& [master, group] : made) {
      if (std::ranges::find(group.domains, id, &GroupDomain::id) != group.domains.end())
        return &group;
    }
    return nullptr;
  }

  std::string xen_version() override { return "4.17.5"; }
  bool interface_matches() override { return same_interface; }
  Result<std::vector<Domain>> domains() override { return present; }
  Result<Group> group(DomainId any) override {
    if (const int errnum = check(any)) return Error{errnum, "get"};
    Group* found = group_of(any);
    if (found == nullptr) return Error{ENOENT, "get"};
    found->now_ns = now_ns;
    return *found;
  }
  Result<std::uint32_t> cap(DomainId id) override {
    if (everything_is != 0) return Error{everything_is, "cap"};
    return caps[id];
  }
  Status add(DomainId master, DomainId member) override {
    calls.push_back("add " + std::to_string(master) + " " + std::to_string(member));
    return status(add_errno(master, member), [&] {
      auto [group, fresh] = made.try_emplace(master);
      group->second.master = master;
      group->second.cap_percent = caps[master];
      if (fresh) group->second.domains.push_back({.id = master, .weight = 1, .since_joined = {}});
      group->second.domains.push_back({.id = member, .weight = 1, .since_joined = {}});
    });
  }
  Status remove(DomainId master, DomainId member) override {
    calls.push_back("remove " + std::to_string(master) + " " + std::to_string(member));
    int errnum = check(master) != 0 ? check(master) : check(member);
    if (errnum == 0 && (!made.contains(master) || group_of(member) != &made[master]))
      errnum = ENOENT;
    return status(errnum, [&] {
      std::erase_if(made[master].domains, [&](const GroupDomain& d) { return d.id == member; });
      if (made[master].domains.size() == 1) made.erase(master);
    });
  }
  Status destroy(DomainId master) override {
    calls.push_back("destroy " + std::to_string(master));
    int errnum = check(master);
    if (errnum == 0 && !made.contains(master)) errnum = ENOENT;
    return status(errnum, [&] { made.erase(master); });
  }
  Status set_weight(DomainId master, DomainId id, std::uint32_t weight) override {
    calls.push_back("set " + std::to_string(id) + " " + std::to_string(weight));
    Group* group = group_of(id);
    int errnum = check(master) != 0 ? check(master) : check(id);
    if (errnum == 0 && (group == nullptr || group->master != master)) errnum = ENOENT;
    return status(
        errnum, [&] { std::ranges::find(group->domains, id, &GroupDomain::id)->weight = weight; });
  }
  Status remember(DomainId member, const std::string& master_name) override {
    if (refuses_notes.contains(member)) return Error{ENOSPC, "the note could not be written"};
    notes[member] = master_name;
    return Done{};
  }
  Status forget(DomainId member) override {
    notes.erase(member);
    return Done{};
  }
  void sleep(std::chrono::milliseconds time) override {
    now_ns += static_cast<std::uint64_t>(time.count()) * 1'000'000;
    if (while_asleep) while_asleep();
  }

 private:
  int check(DomainId id) {
    const auto found = std::ranges::find(present, id, &Domain::id);
    if (found == present.end() || found->dying) return ESRCH;
    if (everything_is != 0) return everything_is;
    return found->scheduler == "null" ? EOPNOTSUPP : 0;
  }
  int add_errno(DomainId master, DomainId member) {
    for (const DomainId id : {master, member}) {
      if (const int errnum = check(id); errnum == ESRCH) return errnum;
    }
    if (everything_is != 0) return everything_is;
    if (master == member) return EINVAL;
    if (const int errnum = check(master)) return errnum;
    if (of(master).pool != of(member).pool) return EXDEV;
    const Group* theirs = group_of(member);
    const Group* ours = group_of(master);
    if (theirs != nullptr && theirs->master == master) return EEXIST;
    return theirs != nullptr || (ours != nullptr && ours->master != master) ? EBUSY : 0;
  }
  static Status status(int errnum, const auto& act) {
    if (errnum != 0) return Error{errnum, "refused"};
    act();
    return Done{};
  }
};

struct Said {
  int status;
  std::string out;
  std::string err;
};

/// As from a shell.  The host is kept.
Said nemesis_of(FakeHost& host, std::vector<const char*> words) {
  class Borrowed final : public Host {
   public:
    explicit Borrowed(Host& host) : host_(host) {}
    std::string xen_version() override { return host_.xen_version(); }
    bool interface_matches() override { return host_.interface_matches(); }
    Result<std::vector<Domain>> domains() override { return host_.domains(); }
    Result<Group> group(DomainId any) override { return host_.group(any); }
    Result<std::uint32_t> cap(DomainId id) override { return host_.cap(id); }
    Status add(DomainId a, DomainId b) override { return host_.add(a, b); }
    Status remove(DomainId a, DomainId b) override { return host_.remove(a, b); }
    Status destroy(DomainId a) override { return host_.destroy(a); }
    Status set_weight(DomainId a, DomainId b, std::uint32_t w) override {
      return host_.set_weight(a, b, w);
    }
    Status remember(DomainId a, const std::string& name) override {
      return host_.remember(a, name);
    }
    Status forget(DomainId a) override { return host_.forget(a); }
    void sleep(std::chrono::milliseconds time) override { host_.sleep(time); }

   private:
    Host& host_;
  };
  std::ostringstream out;
  std::ostringstream err;
  words.insert(words.begin(), "nemesis");
  const OpenHost open = [&]() -> Result<std::unique_ptr<Host>> {
    return std::unique_ptr<Host>(std::make_unique<Borrowed>(host));
  };
  const int status = run_command_line(words, open, out, err);
  return {status, out.str(), err.str()};
}

TEST(NemesisDomains, AreFoundByIdAndByName) {
  const Domains domains(
      {FakeHost::domain(3, "web"), FakeHost::domain(4, "twin"), FakeHost::domain(5, "twin")});
  EXPECT_EQ(domains.find("web")->id, 3U);
  EXPECT_EQ(domains.find("3")->name, "web");
  EXPECT_EQ(domains.find("9").error().what, "There is no domain 9.");
  EXPECT_EQ(domains.find("none").error().errnum, ESRCH);
  EXPECT_EQ(domains.find("twin").error().what,
            "Several domains are called twin: name the one you mean by its id (4, 5).");
  EXPECT_EQ(domains.title(3), "web (3)");
  EXPECT_EQ(domains.title(12), "domain 12");
}

TEST(NemesisAdd, JoinsAndLeavesANote) {
  FakeHost host;
  const Said said = nemesis_of(host, {"add", "web", "web-dm", "7"});
  EXPECT_EQ(said.status, kExitDone) << said.err;
  EXPECT_EQ(said.out,
            "web-dm (4) has joined the group of web (3)\n"
            "backup (7) has joined the group of web (3)\n");
  EXPECT_EQ(host.notes, (std::map<DomainId, std::string>{{4, "web"}, {7, "web"}}));
}

TEST(NemesisAdd, AllOrNone) {
  FakeHost host;
  host.of(7).pool = 1;
  const Said said = nemesis_of(host, {"add", "web", "web-dm", "backup"});
  EXPECT_EQ(said.status, kExitRefused);
  EXPECT_EQ(said.err,
            "nemesis: backup (7) does not join web (3): they are in different cpupools (0 and 1); "
            "`xl cpupool-migrate` moves one.\n");
  EXPECT_EQ(said.out, "");
  EXPECT_TRUE(host.made.empty());
  EXPECT_TRUE(host.notes.empty());
}

TEST(NemesisAdd, WithoutItsNoteItIsNotAdded) {
  FakeHost host;
  host.refuses_notes = {4};
  const Said said = nemesis_of(host, {"add", "web", "web-dm"});
  EXPECT_EQ(said.status, kExitRefused);
  EXPECT_TRUE(host.made.empty());
}

TEST(NemesisAdd, UnknownNameChangesNothing) {
  FakeHost host;
  EXPECT_EQ(nemesis_of(host, {"add", "web", "web-dm", "nobody"}).status, kExitRefused);
  EXPECT_TRUE(host.calls.empty());
}

TEST(NemesisAdd, Dom0UnderACapMustBeMeant) {
  FakeHost host;
  host.caps[3] = 10;
  const Said said = nemesis_of(host, {"add", "web", "Domain-0"});
  EXPECT_EQ(said.status, kExitNotPermitted);
  EXPECT_NE(said.err.find("--force"), std::string::npos);
  EXPECT_TRUE(host.calls.empty());
  EXPECT_EQ(nemesis_of(host, {"add", "--force", "web", "0"}).status, kExitDone);

  FakeHost uncapped;
  EXPECT_EQ(nemesis_of(uncapped, {"add", "web", "0"}).status, kExitDone);
  FakeHost master;
  master.caps[0] = 50;
  EXPECT_EQ(nemesis_of(master, {"add", "0", "web"}).status, kExitNotPermitted);
}

struct Refusal {
  int errnum;
  int status;
  std::string words;
};

class NemesisRefusals : public testing::TestWithParam<Refusal> {};

TEST_P(NemesisRefusals, HaveASentenceAndAStatus) {
  FakeHost host;
  host.everything_is = GetParam().errnum;
  const Said said = nemesis_of(host, {"add", "web", "backup"});
  EXPECT_EQ(said.status, GetParam().status);
  EXPECT_EQ(said.err, "nemesis: backup (7) does not join web (3): " + GetParam().words + "\n");
  const auto json = nlohmann::json::parse(nemesis_of(host, {"--json", "add", "3", "7"}).out);
  EXPECT_EQ(json["refused"][0]["errno"], errno_name(GetParam().errnum));
}

INSTANTIATE_TEST_SUITE_P(
    Each, NemesisRefusals,
    testing::Values(
        Refusal{ESRCH, 1, "there is no such domain any more, or it is dying."},
        Refusal{EPERM, 3,
                "that is not permitted: root in dom0 may, and with FLASK only where the policy has "
                "domain2 { scheddom }."},
        Refusal{EACCES, 3,
                "that is not permitted: root in dom0 may, and with FLASK only where the policy has "
                "domain2 { scheddom }."},
        Refusal{EINVAL, 1, "a master cannot be its own member."},
        Refusal{
            EOPNOTSUPP, 4,
            "the scheduler of its cpupool, credit2, has no scheduling domains, or they were "
            "left out of this hypervisor (CONFIG_SCHED_DOMAINS); credit and credit2 have them."},
        Refusal{EXDEV, 1,
                "they are in different cpupools (0 and 0); `xl cpupool-migrate` moves one."},
        Refusal{EEXIST, 1, "it is a member already."},
        Refusal{EBUSY, 1, "one of them is being moved to another cpupool; try again."},
        Refusal{ENOENT, 1, "web (3) has no group."},
        Refusal{ENOSYS, 4,
                "this hypervisor (Xen 4.17.5) has no scheduling domains; boot one that has."}),
    [](const auto& about) { return errno_name(about.param.errnum); });

TEST(NemesisRefusal, VersionMismatchIsNoDenial) {
  FakeHost host;
  host.everything_is = EACCES;
  host.same_interface = false;
  EXPECT_EQ(nemesis_of(host, {"destroy", "web"}).err,
            "nemesis: The group of web (3) is not dissolved: this nemesis was built for another "
            "version of Xen than the 4.17.5 that runs here; use that one's.\n");
  // dom0's cap is asked for first.
  EXPECT_EQ(nemesis_of(host, {"add", "web", "0"}).err,
            "nemesis: Domain-0 (0) does not join web (3): this nemesis was built for another "
            "version of Xen than the 4.17.5 that runs here; use that one's.\n");
}

TEST(NemesisRefusal, BusyNamesTheOtherGroup) {
  FakeHost host;
  ASSERT_EQ(nemesis_of(host, {"add", "web", "backup"}).status, kExitDone);
  EXPECT_NE(nemesis_of(host, {"add", "0", "backup"}).err.find("of web (3); remove it there"),
            std::string::npos);
  EXPECT_NE(nemesis_of(host, {"add", "0", "web"}).err.find("web (3) is itself the master"),
            std::string::npos);
  EXPECT_NE(nemesis_of(host, {"add", "backup", "0"}).err.find("cannot be a master; name that one"),
            std::string::npos);
}

/// What --dry-run foresees is what happens.
TEST(NemesisDryRun, ForeseesEachAnswerAndChangesNothing) {
  const std::vector<std::vector<const char*>> all = {
      {"add", "web", "backup"},     {"add", "web", "web"},  {"add", "web", "web-dm"},
      {"add", "backup", "4"},       {"add", "0", "web"},    {"remove", "web", "web-dm"},
      {"remove", "web", "7"},       {"remove", "7", "web"}, {"destroy", "web"},
      {"destroy", "web-dm"},        {"destroy", "backup"},  {"set", "web", "web-dm", "5"},
      {"set", "web", "backup", "5"}};
  for (const auto& words : all) {
    for (const int variant : {0, 1, 2, 3}) {
      FakeHost host;
      ASSERT_TRUE(host.add(3, 4));
      host.calls.clear();
      if (variant == 1) host.of(7).pool = 1;
      if (variant == 2) host.of(7).dying = true;
      if (variant == 3) host.everything_is = ENOSYS;
      auto dry = words;
      dry.insert(dry.begin(), "--dry-run");
      const Said foreseen = nemesis_of(host, dry);
      EXPECT_TRUE(host.calls.empty());
      const Said happened = nemesis_of(host, words);
      EXPECT_EQ(foreseen.status, happened.status) << words[0] << words[1] << words[2] << variant;
      EXPECT_EQ(foreseen.err, happened.err);
    }
  }
}

TEST(NemesisRemove, DoesWhatItCan) {
  FakeHost host;
  ASSERT_EQ(nemesis_of(host, {"add", "web", "web-dm"}).status, kExitDone);
  const Said said = nemesis_of(host, {"remove", "web", "backup", "web-dm"});
  EXPECT_EQ(said.status, kExitRefused);
  EXPECT_EQ(said.out, "web-dm (4) has left the group of web (3)\n");
  EXPECT_EQ(said.err, "nemesis: backup (7) does not leave web (3): it is not in that group.\n");
  EXPECT_TRUE(host.made.empty());
  EXPECT_TRUE(host.notes.empty());
}

TEST(NemesisDestroy, TakesTheNotesAway) {
  FakeHost host;
  ASSERT_EQ(nemesis_of(host, {"add", "web", "web-dm", "backup"}).status, kExitDone);
  EXPECT_EQ(nemesis_of(host, {"destroy", "web"}).out, "The group of web (3) is dissolved\n");
  EXPECT_TRUE(host.notes.empty());
}

TEST(NemesisList, StubDomainAndGuestAreOneRow) {
  FakeHost host;
  host.caps[3] = 10;
  ASSERT_EQ(nemesis_of(host, {"add", "web", "backup", "web-dm"}).status, kExitDone);
  host.made[3].since_made = {1'500'000'000, 100, 60, 0};
  host.made[3].domains[0].since_joined.usage_ns = 500'000'000;
  host.made[3].domains[2].since_joined.usage_ns = 250'000'000;
  EXPECT_EQ(nemesis_of(host, {"list"}).out,
            "MASTER           ID  CAP %  WEIGHT  USAGE s  PERIODS  THROTTLED  WAITED s  MEMBERS\n"
            "web + web-dm  3 + 4     10       0    1.500      100         60     0.000  backup\n");
  const std::string page = nemesis_of(host, {"show", "backup"}).out;
  EXPECT_NE(page.find("web + web-dm  3 + 4   1 + 1    0.750"), std::string::npos) << page;
  const auto json = nlohmann::json::parse(nemesis_of(host, {"list", "--json"}).out);
  EXPECT_EQ(json["groups"][0]["domains"][2]["stub_of"], 3);
  EXPECT_EQ(json["groups"][0]["domains"].size(), 3U);
}

TEST(NemesisList, SaysWhoIsInNone) {
  FakeHost host;
  EXPECT_EQ(nemesis_of(host, {"list"}).out, "There are no groups.\n");
  const Said all = nemesis_of(host, {"list", "--all"});
  EXPECT_NE(all.out.find("backup        7     0  credit2"), std::string::npos) << all.out;
  EXPECT_EQ(nemesis_of(host, {"show", "web"}).err, "nemesis: web (3) is in no group.\n");
}

TEST(NemesisList, AnUnpatchedHypervisorIsSaid) {
  FakeHost host;
  host.everything_is = ENOSYS;
  const Said said = nemesis_of(host, {"list"});
  EXPECT_EQ(said.status, kExitNotSupported);
  EXPECT_EQ(said.out, "");
  EXPECT_NE(said.err.find("this hypervisor (Xen 4.17.5) has no scheduling domains"),
            std::string::npos);
}

TEST(NemesisWatch, ShowsSharesOfTheInterval) {
  FakeHost host;
  host.caps[3] = 20;
  ASSERT_EQ(nemesis_of(host, {"add", "web", "web-dm", "backup"}).status, kExitDone);
  host.while_asleep = [&] {
    Group& group = host.made[3];
    group.since_made.usage_ns += 100'000'000;
    group.since_made.nr_periods += 50;
    group.since_made.nr_throttled += 25;
    group.domains[0].since_joined.usage_ns += 40'000'000;
    group.domains[1].since_joined.usage_ns += 10'000'000;
    group.domains[2].since_joined.usage_ns += 50'000'000;
  };
  const Said said = nemesis_of(host, {"watch", "web", "--interval", "0.5", "--count", "2"});
  EXPECT_EQ(said.status, kExitDone);
  EXPECT_EQ(said.out,
            "1.500 s  web 20.00 % of 20, throttled in 25 of 50 periods: web + web-dm 10.00 %, "
            "backup 10.00 %\n"
            "2.000 s  web 20.00 % of 20, throttled in 25 of 50 periods: web + web-dm 10.00 %, "
            "backup 10.00 %\n");
  const Said json = nemesis_of(host, {"watch", "--json", "web", "--count", "1"});
  EXPECT_DOUBLE_EQ(nlohmann::json::parse(json.out)["share_percent"], 10.0);
}

TEST(NemesisWatch, EndsWithTheGroup) {
  FakeHost host;
  ASSERT_EQ(nemesis_of(host, {"add", "web", "backup"}).status, kExitDone);
  host.while_asleep = [&] { host.made.clear(); };
  const Said said = nemesis_of(host, {"watch", "web"});
  EXPECT_EQ(said.status, kExitRefused);
  EXPECT_EQ(said.err, "nemesis: web (3) is in no group any more.\n");
}

TEST(NemesisWords, NonsenseOpensNoHost) {
  for (const std::vector<const char*>& words :
       std::vector<std::vector<const char*>>{{"nemesis"},
                                             {"nemesis", "joke"},
                                             {"nemesis", "add", "web"},
                                             {"nemesis", "set", "a", "b", "65536"},
                                             {"nemesis", "set", "a", "b", "-1"},
                                             {"nemesis", "watch", "a", "--interval", "0"}}) {
    std::ostringstream out;
    std::ostringstream err;
    bool opened = false;
    const OpenHost open = [&]() -> Result<std::unique_ptr<Host>> {
      opened = true;
      return Error{EPERM, ""};
    };
    EXPECT_EQ(run_command_line(words, open, out, err), kExitUsage) << err.str();
    EXPECT_FALSE(opened);
    EXPECT_NE(err.str(), "");
  }
}

TEST(NemesisWords, HelpIsNoError) {
  std::ostringstream out;
  std::ostringstream err;
  const std::vector<const char*> words = {"nemesis", "--help"};
  const OpenHost open = []() -> Result<std::unique_ptr<Host>> { return Error{EPERM, ""}; };
  EXPECT_EQ(run_command_line(words, open, out, err), kExitDone);
  EXPECT_NE(out.str().find("watch"), std::string::npos);
}

}  // namespace
}  // namespace nemesis
