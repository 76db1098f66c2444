// SPDX-License-Identifier: GPL-2.0-only
//
// Groups as people read them, and as programs do.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "domains.hpp"
#include "host.hpp"

namespace nemesis {

/// A domain of a group, with the stub domain that works for it where that is in the group, too.
struct Row {
  std::vector<GroupDomain> domains;
  [[nodiscard]] Counters counters() const;
};

/// The master's first.
[[nodiscard]] std::vector<Row> rows(const Group& group, const Domains& domains);

/// A line for each group.
[[nodiscard]] std::string group_table(const std::vector<Group>& groups, const Domains& domains);
/// A line for each domain that is in no group.
[[nodiscard]] std::string others_table(const std::vector<Group>& groups, const Domains& domains);
/// One group: what it may, what it had, and a line for each row.
[[nodiscard]] std::string group_page(const Group& group, const Domains& domains);
/// What a group had between two looks, in percent of one pCPU.
[[nodiscard]] std::string watch_lines(const Group& before, const Group& now,
                                      const Domains& domains);

[[nodiscard]] nlohmann::ordered_json to_json(const Group& group, const Domains& domains);
[[nodiscard]] nlohmann::ordered_json to_json(const Domain& domain);
[[nodiscard]] nlohmann::ordered_json watch_json(const Group& before, const Group& now,
                                                const Domains& domains);

}  // namespace nemesis
