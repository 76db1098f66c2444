// SPDX-License-Identifier: GPL-2.0-only
//
// How a group's budget is dealt out: scheddom-share.h of the patched hypervisor, as it is, over its
// whole input range. All times are nanoseconds of CPU time.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

using s_time_t = std::int64_t;
#include "scheddom-share.h"

namespace {

constexpr s_time_t kMicrosecond = 1'000;
constexpr s_time_t kMillisecond = 1'000'000;
constexpr s_time_t kChunk = 500 * kMicrosecond;

class Group {
 public:
  explicit Group(std::vector<std::uint32_t> weights) : shares_(weights.size()) {
    for (std::size_t i = 0; i < weights.size(); ++i) {
      shares_[i].weight = weights[i];
      shares_[i].wants = true;
      shares_[i].next = i + 1 < weights.size() ? &shares_[i + 1] : nullptr;
    }
  }

  void refill(s_time_t refill_ns, s_time_t chunk_ns = kChunk) {
    scheddom_share_out(shares_.data(), &spare, refill_ns, 2 * refill_ns, chunk_ns);
  }

  void reclaim() {
    scheddom_share_reclaim(shares_.data(), &spare);
    scheddom_share_deal(shares_.data(), &spare, kChunk);
  }

  // A period in which domain i wants to use demand[i].  What is used is taken; a domain that is
  // refused is dry, as the hypervisor marks it.
  std::vector<s_time_t> use(const std::vector<s_time_t>& demand) {
    std::vector<s_time_t> used(shares_.size());
    for (std::size_t i = 0; i < shares_.size(); ++i) {
      used[i] = std::clamp(demand[i], s_time_t{0}, std::max(shares_[i].budget, s_time_t{0}));
      shares_[i].budget -= used[i];
      shares_[i].used = used[i];
      shares_[i].dry = shares_[i].dry || used[i] < demand[i];
      shares_[i].waits = false;
      shares_[i].recent = used[i] != 0;
    }
    return used;
  }

  [[nodiscard]] s_time_t held() const {
    return std::accumulate(shares_.begin(), shares_.end(), spare,
                           [](s_time_t sum, const scheddom_share& s) { return sum + s.budget; });
  }

  scheddom_share& operator[](std::size_t i) { return shares_[i]; }
  [[nodiscard]] std::size_t size() const { return shares_.size(); }

  s_time_t spare = 0;

 private:
  std::vector<scheddom_share> shares_;
};

// Max-min fair shares of `total` among demands, by weight: the textbook's progressive filling.
std::vector<double> max_min(double total, const std::vector<double>& demand,
                            const std::vector<std::uint32_t>& weight) {
  std::vector<double> got(demand.size());
  std::vector<bool> open(demand.size(), true);
  for (std::size_t round = 0; round < demand.size(); ++round) {
    double weights = 0;
    double left = total;
    for (std::size_t i = 0; i < demand.size(); ++i) {
      if (open[i]) {
        weights += weight[i];
      } else {
        left -= got[i];
      }
    }
    bool closed = false;
    for (std::size_t i = 0; i < demand.size(); ++i) {
      if (!open[i]) continue;
      got[i] = left * weight[i] / weights;
      if (demand[i] <= got[i]) {
        got[i] = demand[i];
        open[i] = false;
        closed = true;
      }
    }
    if (!closed) break;
  }
  return got;
}

TEST(ShareOut, EqualDomainsGetEqualParts) {
  Group group({256, 256, 256, 256});
  group.refill(10 * kMillisecond);
  for (std::size_t i = 0; i < group.size(); ++i) EXPECT_EQ(group[i].budget, 2'500'000);
  EXPECT_EQ(group.spare, 0);
}

TEST(ShareOut, WeightsAreFollowed) {
  Group group({256, 768});
  group.refill(10 * kMillisecond);
  EXPECT_EQ(group[0].budget, 2'500'000);
  EXPECT_EQ(group[1].budget, 7'500'000);
}

TEST(ShareOut, WhatADomainThatSleepsHadIsDealtAnew) {
  Group group({256, 256});
  group.refill(2 * kMillisecond);
  group.use({0, kMillisecond});
  group[0].wants = false;
  group.refill(2 * kMillisecond);
  EXPECT_EQ(group[0].budget, 0);
  EXPECT_EQ(group[1].budget, 3 * kMillisecond);
}

TEST(ShareOut, NothingIsLostWhileNobodyWantsButTheLimitHolds) {
  Group group({256, 256});
  group[0].wants = group[1].wants = false;
  for (int i = 0; i < 5; ++i) group.refill(kMillisecond);
  EXPECT_EQ(group.held(), 2 * kMillisecond);
}

TEST(ShareOut, ADebtIsPaidByWhoeverRanItUp) {
  Group group({256, 256});
  group[0].budget = -400 * kMicrosecond;
  group.refill(2 * kMillisecond);
  EXPECT_EQ(group[0].budget, 600 * kMicrosecond);
  EXPECT_EQ(group[1].budget, kMillisecond);
}

TEST(ShareOut, ADebtOfTheGroupIsPaidFirst) {
  Group group({256, 256});
  group.spare = -3 * kMillisecond;
  group.refill(2 * kMillisecond);
  EXPECT_EQ(group[0].budget, 0);
  EXPECT_EQ(group[1].budget, 0);
  EXPECT_EQ(group.spare, -kMillisecond);
}

// As when the cap is lowered while the group waits for a pCPU: what was earned under the old one is
// lost, each domain keeps its part of what may be held, and debts stay debts.
TEST(ShareOut, WhatIsOverTheLimitIsLost) {
  Group group({256, 768, 256, 256});
  group[0].budget = 8 * kMillisecond;
  group[1].budget = 8 * kMillisecond;
  group[2].budget = -kMillisecond;
  group[3].budget = 100 * kMicrosecond;
  scheddom_share_out(&group[0], &group.spare, kMillisecond, 5 * kMillisecond, kChunk);
  EXPECT_EQ(group[0].budget, kMillisecond);
  EXPECT_EQ(group[1].budget, 3 * kMillisecond);
  EXPECT_EQ(group[2].budget, -kMillisecond);
  EXPECT_EQ(group[3].budget, 100 * kMicrosecond);
  EXPECT_EQ(group.spare, 0);
}

TEST(ShareOut, ALimitOfNothingLeavesNothing) {
  Group group({256, 256});
  group[0].budget = group[1].budget = kMillisecond;
  scheddom_share_out(&group[0], &group.spare, kMillisecond, -kMillisecond, kChunk);
  EXPECT_EQ(group.held(), 0);
}

TEST(ShareOut, SmallPartsComeInTurnsOfAWholeChunk) {
  // 5 % of a pCPU for 8 domains: 62.5 us each per refill of 10 ms.
  Group group(std::vector<std::uint32_t>(8, 256));
  std::vector<s_time_t> total(8);
  for (int period = 0; period < 800; ++period) {
    group.refill(500 * kMicrosecond);
    for (std::size_t i = 0; i < 8; ++i) {
      EXPECT_TRUE(group[i].budget <= 0 || group[i].budget >= kChunk);
    }
    const auto used = group.use(std::vector<s_time_t>(8, kMillisecond));
    for (std::size_t i = 0; i < 8; ++i) total[i] += used[i];
  }
  for (const s_time_t t : total) EXPECT_NEAR(static_cast<double>(t), 100.0 * 500'000, 500'000);
  EXPECT_EQ(std::accumulate(total.begin(), total.end(), s_time_t{0}), 800 * 500 * kMicrosecond);
}

TEST(ShareOut, NobodyStarvesWhateverTheWeights) {
  Group group({1, 65535, 65535, 65535});
  std::vector<s_time_t> total(4);
  for (int period = 0; period < 300'000; ++period) {
    group.refill(kMillisecond);
    const auto used = group.use(std::vector<s_time_t>(4, 10 * kMillisecond));
    for (std::size_t i = 0; i < 4; ++i) total[i] += used[i];
  }
  EXPECT_GE(total[0], kChunk);
  EXPECT_NEAR(static_cast<double>(total[1]) / static_cast<double>(total[3]), 1.0, 0.001);
}

// The part that one domain cannot use goes to those who can, and in the long run that is max-min
// fair: to 1 % of the group's time where every part is worth a chunk.  (Where they take turns, a
// domain that wants less than its part can be up to a chunk off.)
TEST(ShareOut, IsMaxMinFairInTheLongRun) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    const std::size_t n = 1 + random() % 8;
    const s_time_t refill_ns =
        (1 + static_cast<s_time_t>(random() % 10)) * 8 * static_cast<s_time_t>(n) * kChunk;
    std::vector<std::uint32_t> weights(n);
    std::vector<double> demand(n);
    for (std::size_t i = 0; i < n; ++i) {
      weights[i] = 64u << (random() % 4);
      demand[i] = static_cast<double>(refill_ns) * static_cast<double>(1 + random() % 150) / 100.0;
    }
    Group group(weights);
    std::vector<double> total(n);
    constexpr int kPeriods = 2'000;
    for (int period = 0; period < kPeriods; ++period) {
      group.refill(refill_ns);
      std::vector<s_time_t> wants(n);
      for (std::size_t i = 0; i < n; ++i) wants[i] = static_cast<s_time_t>(demand[i]);
      const auto used = group.use(wants);
      for (std::size_t i = 0; i < n; ++i) total[i] += static_cast<double>(used[i]) / kPeriods;
    }
    const auto fair = max_min(static_cast<double>(refill_ns), demand, weights);
    for (std::size_t i = 0; i < n; ++i) {
      EXPECT_NEAR(total[i], fair[i], 0.01 * static_cast<double>(refill_ns))
          << "round " << round << ", domain " << i << " of " << n << ", refill " << refill_ns
          << ", demand " << demand[i];
    }
  }
}

// Two that had to wait for a pCPU while the third ran get, together with it, no more than the
// group's time, and in the end as much as it.
TEST(ShareOut, WhoHadToWaitMakesUpForIt) {
  constexpr s_time_t kRefill = 6 * kMillisecond;
  constexpr s_time_t kAll = 100 * kMillisecond;
  Group group({256, 256, 256});
  std::vector<s_time_t> total(3);
  for (int period = 0; period < 40; ++period) {
    group.refill(kRefill);
    const bool wait = period == 10 || period == 20 || period == 21;
    const auto used =
        group.use(wait ? std::vector<s_time_t>{kAll, 0, 0} : std::vector<s_time_t>(3, kAll));
    group[1].waits = group[2].waits = wait;
    for (std::size_t i = 0; i < 3; ++i) total[i] += used[i];
  }
  EXPECT_EQ(total[0], 40 * kRefill / 3);
  EXPECT_EQ(total[1], 40 * kRefill / 3);
  EXPECT_EQ(total[2], 40 * kRefill / 3);
}

// What a domain lent while it waited is remembered to SCHEDDOM_LENT parts, and not paid back all at
// once.
TEST(ShareOut, LendingIsBounded) {
  constexpr s_time_t kRefill = 4 * kMillisecond;
  Group group({256, 256});
  for (int period = 0; period < 1000; ++period) {
    group.refill(kRefill);
    group.use({0, 100 * kMillisecond});
    group[0].waits = true;
  }
  s_time_t more = 0;
  for (int period = 0; period < 20; ++period) {
    group.refill(kRefill);
    const auto used = group.use({100 * kMillisecond, 100 * kMillisecond});
    EXPECT_LE(used[0], kRefill);
    more += used[0] - used[1];
  }
  EXPECT_GT(more, kRefill);
  EXPECT_LE(more, 5 * kRefill);  // four parts lent, and one under way
}

// A domain that leaves its part because it wants no more has lent nothing.
TEST(ShareOut, WhatIsNotWantedIsNoLoan) {
  constexpr s_time_t kRefill = 4 * kMillisecond;
  Group group({256, 256});
  for (int period = 0; period < 1000; ++period) {
    group.refill(kRefill);
    group.use({100 * kMicrosecond, 100 * kMillisecond});
    EXPECT_EQ(group[0].lent, 0);
    EXPECT_EQ(group[1].lent, 0);
  }
}

// A domain that wants nothing now, but has run not long ago, finds its part when it wakes, or as
// much as it has used of late; and it holds no more than that back from the others.
TEST(ShareOut, WhoSleepsKeepsItsPartAndNoMore) {
  constexpr s_time_t kRefill = 2 * kMillisecond;
  for (const s_time_t used : {210 * kMicrosecond, 1500 * kMicrosecond}) {
    Group group({256, 256});
    group[0].budget = 4 * kMillisecond - used;
    group[0].used = used;
    group[0].wants = false;
    group[0].recent = true;
    group[1].dry = true;
    group.refill(kRefill);
    const s_time_t kept = std::max(used, kRefill / 2);
    EXPECT_EQ(group[0].budget, kept);
    EXPECT_EQ(group[1].budget, 2 * kRefill - kept);
  }
}

TEST(ShareOut, WhoSleepsForLongKeepsNothing) {
  Group group({256, 256});
  group[0].budget = kMillisecond;
  group[0].wants = false;
  group[1].dry = true;
  group.refill(2 * kMillisecond);
  EXPECT_EQ(group[0].budget, 0);
  EXPECT_EQ(group[1].budget, 3 * kMillisecond);
}

TEST(Reclaim, WhatIsKeptForSleepersGoesToTheDryByWeight) {
  Group group({256, 256, 768, 256});
  group[0].budget = 1600 * kMicrosecond;
  group[0].wants = false;
  group[1].dry = group[2].dry = true;
  group[3].budget = 300 * kMicrosecond;
  group.spare = 400 * kMicrosecond;
  EXPECT_EQ(scheddom_share_idle(&group[0]), 1600 * kMicrosecond);
  group.reclaim();
  EXPECT_EQ(group[0].budget, 0);
  EXPECT_EQ(group[1].budget, 500 * kMicrosecond);
  EXPECT_EQ(group[2].budget, 1500 * kMicrosecond);
  EXPECT_EQ(group[3].budget, 300 * kMicrosecond);
  EXPECT_EQ(group.spare, 0);
}

TEST(Reclaim, SpareStaysWhereNobodyIsDry) {
  Group group({256, 256});
  group[0].wants = false;
  group[1].budget = kMillisecond;
  group.spare = kMillisecond;
  scheddom_share_deal(&group[0], &group.spare, kChunk);
  EXPECT_EQ(group[0].budget, 0);
  EXPECT_EQ(group[1].budget, kMillisecond);
  EXPECT_EQ(group.spare, kMillisecond);
}

TEST(Reclaim, AllAreDryWhenNobodyWhoWantsHasAny) {
  Group group({256, 256});
  group[0].wants = false;
  EXPECT_FALSE(scheddom_share_all_dry(&group[0]));
  group[1].dry = true;
  EXPECT_TRUE(scheddom_share_all_dry(&group[0]));
  group[0].wants = true;
  EXPECT_FALSE(scheddom_share_all_dry(&group[0]));
}

TEST(Reclaim, NothingIsDealtToSleepers) {
  Group group({256, 256, 256});
  group[0].budget = kMillisecond;
  group[0].wants = group[1].wants = false;
  group[1].dry = group[2].dry = true;
  group[1].due = 5 * kMillisecond;
  group.reclaim();
  EXPECT_EQ(group[1].budget, 0);
  EXPECT_EQ(group[2].budget, kMillisecond);
}

TEST(Reclaim, MovesBudgetAndMakesNone) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 100'000; ++round) {
    const std::size_t n = 1 + random() % 16;
    Group group(std::vector<std::uint32_t>(n, 256));
    std::vector<s_time_t> before(n);
    const auto any = [&] { return static_cast<s_time_t>(random() % 20) * 100'000 - 500'000; };
    group.spare = any();
    for (std::size_t i = 0; i < n; ++i) {
      group[i].weight = 1 + static_cast<std::uint32_t>(random() % 65535);
      group[i].budget = before[i] = any();
      group[i].due = any();
      group[i].wants = random() % 2 == 0;
      group[i].dry = group[i].wants && random() % 2 == 0;
    }
    const s_time_t held = group.held();
    std::vector<bool> dry(n);
    for (std::size_t i = 0; i < n; ++i) dry[i] = group[i].dry;
    group.reclaim();
    EXPECT_EQ(group.held(), held);
    for (std::size_t i = 0; i < n; ++i) {
      if (dry[i]) {
        EXPECT_GE(group[i].budget, before[i]);
      } else if (group[i].wants) {
        EXPECT_EQ(group[i].budget, before[i]);
      } else {
        EXPECT_TRUE(group[i].budget == before[i] || (before[i] > 0 && group[i].budget == 0));
      }
    }
    ASSERT_FALSE(HasFailure()) << "round " << round;
  }
}

// Whatever it is given: no budget from nowhere, never more than the limit, nobody is robbed, and it
// ends.
TEST(ShareOut, KeepsItsInvariantsOverTheWholeRange) {
  std::mt19937_64 random(2);
  const auto any = [&](s_time_t low, s_time_t high) {
    return low + static_cast<s_time_t>(random() % static_cast<std::uint64_t>(high - low + 1));
  };
  for (int round = 0; round < 200'000; ++round) {
    const std::size_t n = 1 + random() % 64;
    // Caps are 16 bits wide, in percent: up to 6.5536 s of CPU time per refill of 10 ms.
    const s_time_t refill_ns = random() % 8 == 0 ? 0 : any(0, 65535 * kMillisecond / 10);
    const s_time_t limit_ns = 2 * refill_ns - any(0, refill_ns);
    Group group(std::vector<std::uint32_t>(n, 1));
    std::vector<s_time_t> before(n);
    group.spare = any(-refill_ns, refill_ns);
    for (std::size_t i = 0; i < n; ++i) {
      group[i].weight = static_cast<std::uint32_t>(any(1, 65535));
      group[i].budget = any(-refill_ns, refill_ns);
      group[i].due = any(-refill_ns, refill_ns);
      group[i].lent = any(-4 * refill_ns, 4 * refill_ns);
      group[i].used = any(0, 2 * refill_ns);
      group[i].wants = random() % 4 != 0;
      group[i].recent = random() % 2 == 0;
      group[i].waits = random() % 2 == 0;
      group[i].dry = random() % 2 == 0;
      before[i] = group[i].budget;
    }
    const s_time_t held = group.held();
    const s_time_t dealt = held - group.spare;
    scheddom_share_out(&group[0], &group.spare, refill_ns, limit_ns, kChunk);

    EXPECT_LE(group.held(), held + refill_ns);
    EXPECT_LE(group.held(), limit_ns);
    if (held + refill_ns <= limit_ns) {
      EXPECT_EQ(group.held(), held + refill_ns);
    }
    for (std::size_t i = 0; i < n; ++i) {
      // Nobody is robbed, but of what is over the limit.
      const bool keeps = group[i].wants && dealt <= limit_ns;
      EXPECT_GE(group[i].budget, keeps ? before[i] : std::min(before[i], s_time_t{0}));
      if (!group[i].wants && !group[i].recent) {
        EXPECT_EQ(group[i].budget, std::min(before[i], s_time_t{0}));
      }
    }
    ASSERT_FALSE(HasFailure()) << "round " << round;
  }
}

TEST(PartWeight, SplitsTheGroupsWeight) {
  EXPECT_EQ(scheddom_part_weight(256, 256, 256, 1), 256u << 8);
  EXPECT_EQ(scheddom_part_weight(256, 256, 768, 1), 21845u);  // 85 1/3
  EXPECT_EQ(scheddom_part_weight(1024, 256, 512, 4), 128u << 8);
  EXPECT_EQ(scheddom_part_weight(1, 1, 65535 * 64u, 128), 1u);
  // 65535 for each of 128 vCPUs.
  EXPECT_EQ(scheddom_part_weight(65535 * 128u, 256, 256, 1), 65535u * 128 * 256);
}

}  // namespace
