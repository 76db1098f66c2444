// SPDX-License-Identifier: GPL-2.0-only
#include "report.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <set>

namespace nemesis {

namespace {

using nlohmann::ordered_json;

constexpr double kNsPerS = 1e9;
constexpr double kPercent = 100.0;

std::string fixed(double value, int digits) {
  std::array<char, 64> text{};
  (void)std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}

std::string seconds(std::uint64_t ns) {
  return fixed(static_cast<double>(ns) / kNsPerS, 3);
}

std::string cap_text(std::uint32_t cap_percent) {
  return cap_percent == 0 ? "none" : std::to_string(cap_percent);
}

/// Columns as wide as what is in them; those of `left` to the left.
class Table {
 public:
  Table(std::vector<std::string> head, std::set<std::size_t> left)
      : left_(std::move(left)), lines_{std::move(head)} {}

  void add(std::vector<std::string> line) { lines_.push_back(std::move(line)); }

  [[nodiscard]] std::string text() const {
    std::vector<std::size_t> widths(lines_.front().size());
    for (const auto& line : lines_) {
      for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
    }
    std::string out;
    for (const auto& line : lines_) out += row(line, widths);
    return out;
  }

 private:
  [[nodiscard]] std::string row(const std::vector<std::string>& line,
                                const std::vector<std::size_t>& widths) const {
    std::string out;
    for (std::size_t i = 0; i < line.size(); ++i) {
      const std::string pad(widths[i] - line[i].size(), ' ');
      out += (i == 0 ? "" : "  ") + (left_.contains(i) ? line[i] + pad : pad + line[i]);
    }
    out.erase(out.find_last_not_of(' ') + 1);
    return out + "\n";
  }

  std::set<std::size_t> left_;
  std::vector<std::vector<std::string>> lines_;
};

const GroupDomain* in_group(const Group& group, DomainId id) {
  const auto found = std::ranges::find(group.domains, id, &GroupDomain::id);
  return found == group.domains.end() ? nullptr : &*found;
}

/// Whether it works for another domain of the group, in whose row it is then.
bool is_stub_within(const Group& group, const Domains& domains, DomainId id) {
  const Domain* domain = domains.find(id);
  return domain != nullptr && domain->stub_of && in_group(group, *domain->stub_of) != nullptr;
}

std::string joined(const Row& row, const auto& text) {
  std::string out;
  for (const GroupDomain& one : row.domains) out += (out.empty() ? "" : " + ") + text(one);
  return out;
}

std::string names(const Row& row, const Domains& domains) {
  return joined(row, [&](const GroupDomain& one) { return domains.name(one.id); });
}

std::string ids(const Row& row) {
  return joined(row, [](const GroupDomain& one) { return std::to_string(one.id); });
}

ordered_json to_json(const Counters& counters) {
  return {{"usage_ns", counters.usage_ns},
          {"nr_periods", counters.nr_periods},
          {"nr_throttled", counters.nr_throttled},
          {"throttled_ns", counters.throttled_ns}};
}

double share_percent(const Counters& had, std::uint64_t time_ns) {
  return time_ns == 0 ? 0.0
                      : kPercent * static_cast<double>(had.usage_ns) / static_cast<double>(time_ns);
}

/// What a domain had since the look before; one that has just joined: since it joined.
Counters since(const Group& before, const GroupDomain& now) {
  const GroupDomain* then = in_group(before, now.id);
  const bool is_the_same =
      then != nullptr && then->since_joined.usage_ns <= now.since_joined.usage_ns;
  return is_the_same ? now.since_joined - then->since_joined : now.since_joined;
}

}  // namespace

Counters Row::counters() const {
  Counters sum;
  for (const GroupDomain& one : domains) sum += one.since_joined;
  return sum;
}

std::vector<Row> rows(const Group& group, const Domains& domains) {
  std::vector<Row> found;
  for (const GroupDomain& one : group.domains) {
    if (is_stub_within(group, domains, one.id)) continue;
    Row row{{one}};
    for (const GroupDomain& other : group.domains) {
      const Domain* domain = domains.find(other.id);
      if (domain != nullptr && domain->stub_of == one.id) row.domains.push_back(other);
    }
    found.push_back(std::move(row));
  }
  return found;
}

std::string group_table(const std::vector<Group>& groups, const Domains& domains) {
  if (groups.empty()) return "There are no groups.\n";
  Table table(
      {"MASTER", "ID", "CAP %", "WEIGHT", "USAGE s", "PERIODS", "THROTTLED", "WAITED s", "MEMBERS"},
      {0, 8});
  for (const Group& group : groups) {
    const auto all = rows(group, domains);
    std::string members;
    for (std::size_t i = 1; i < all.size(); ++i)
      members += (members.empty() ? "" : ", ") + names(all[i], domains);
    table.add({names(all.front(), domains), ids(all.front()), cap_text(group.cap_percent),
               std::to_string(group.weight), seconds(group.since_made.usage_ns),
               std::to_string(group.since_made.nr_periods),
               std::to_string(group.since_made.nr_throttled),
               seconds(group.since_made.throttled_ns), members});
  }
  return table.text();
}

std::string others_table(const std::vector<Group>& groups, const Domains& domains) {
  Table table({"IN NO GROUP", "ID", "POOL", "SCHEDULER"}, {0, 3});
  for (const Domain& domain : domains.all()) {
    if (std::ranges::any_of(groups, [&](const Group& group) { return in_group(group, domain.id); }))
      continue;
    table.add({domains.name(domain.id), std::to_string(domain.id), std::to_string(domain.pool),
               domain.scheduler + (domain.dying ? ", dying" : "")});
  }
  return table.text();
}

std::string group_page(const Group& group, const Domains& domains) {
  std::string out = "Group of " + domains.title(group.master) + ": cap " +
                    cap_text(group.cap_percent) + (group.cap_percent == 0 ? "" : " %") +
                    ", weight " + std::to_string(group.weight) + ", usage " +
                    seconds(group.since_made.usage_ns) + " s, throttled in " +
                    std::to_string(group.since_made.nr_throttled) + " of " +
                    std::to_string(group.since_made.nr_periods) + " periods, waited " +
                    seconds(group.since_made.throttled_ns) + " s\n\n";
  Table table({"DOMAIN", "ID", "WEIGHT", "USAGE s", "PERIODS", "THROTTLED", "WAITED s"}, {0});
  for (const Row& row : rows(group, domains)) {
    const Counters sum = row.counters();
    table.add({names(row, domains), ids(row),
               joined(row, [](const GroupDomain& one) { return std::to_string(one.weight); }),
               seconds(sum.usage_ns), std::to_string(sum.nr_periods),
               std::to_string(sum.nr_throttled), seconds(sum.throttled_ns)});
  }
  return out + table.text();
}

std::string watch_lines(const Group& before, const Group& now, const Domains& domains) {
  const std::uint64_t time_ns = now.now_ns - before.now_ns;
  const Counters all = now.since_made - before.since_made;
  std::string out = fixed(static_cast<double>(now.now_ns) / kNsPerS, 3) + " s  " +
                    domains.name(now.master) + " " + fixed(share_percent(all, time_ns), 2) +
                    " % of " + cap_text(now.cap_percent) + ", throttled in " +
                    std::to_string(all.nr_throttled) + " of " + std::to_string(all.nr_periods) +
                    " periods:";
  const char* separator = " ";
  for (const Row& row : rows(now, domains)) {
    Counters sum;
    for (const GroupDomain& one : row.domains) sum += since(before, one);
    out += separator + names(row, domains) + " " + fixed(share_percent(sum, time_ns), 2) + " %";
    separator = ", ";
  }
  return out + "\n";
}

ordered_json to_json(const Domain& domain) {
  ordered_json out = {{"id", domain.id},
                      {"name", domain.name},
                      {"pool", domain.pool},
                      {"scheduler", domain.scheduler}};
  if (domain.stub_of) out["stub_of"] = *domain.stub_of;
  if (domain.dying) out["dying"] = true;
  return out;
}

ordered_json to_json(const Group& group, const Domains& domains) {
  ordered_json members = ordered_json::array();
  for (const GroupDomain& one : group.domains) {
    ordered_json entry = {{"id", one.id}, {"name", ""}, {"weight", one.weight}};
    if (const Domain* domain = domains.find(one.id)) {
      entry["name"] = domain->name;
      if (domain->stub_of) entry["stub_of"] = *domain->stub_of;
    }
    entry.update(to_json(one.since_joined));
    members.push_back(std::move(entry));
  }
  ordered_json out = {{"master", group.master},
                      {"cap_percent", group.cap_percent},
                      {"weight", group.weight},
                      {"now_ns", group.now_ns}};
  out.update(to_json(group.since_made));
  out["domains"] = std::move(members);
  return out;
}

ordered_json watch_json(const Group& before, const Group& now, const Domains& domains) {
  const std::uint64_t time_ns = now.now_ns - before.now_ns;
  const Counters all = now.since_made - before.since_made;
  ordered_json shares = ordered_json::array();
  for (const GroupDomain& one : now.domains) {
    const Domain* domain = domains.find(one.id);
    shares.push_back({{"id", one.id},
                      {"name", domain == nullptr ? "" : domain->name},
                      {"share_percent", share_percent(since(before, one), time_ns)}});
  }
  return {{"now_ns", now.now_ns},
          {"time_ns", time_ns},
          {"master", now.master},
          {"cap_percent", now.cap_percent},
          {"share_percent", share_percent(all, time_ns)},
          {"nr_periods", all.nr_periods},
          {"nr_throttled", all.nr_throttled},
          {"domains", std::move(shares)}};
}

}  // namespace nemesis
