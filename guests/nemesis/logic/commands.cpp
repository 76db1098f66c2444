// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hpp"

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <ostream>
#include <utility>

#include "report.hpp"

namespace nemesis {

namespace {

using What = Attempt::What;

bool has(const Group& group, DomainId id) {
  return std::ranges::find(group.domains, id, &GroupDomain::id) != group.domains.end();
}

}  // namespace

Result<Domains> Commands::domains() {
  auto all = host_.domains();
  if (!all) return all.error();
  return Domains(std::move(*all));
}

Result<std::vector<Group>> Commands::groups(const Domains& domains) {
  std::vector<Group> found;
  for (const Domain& domain : domains.all()) {
    auto group = host_.group(domain.id);
    if (group) {
      if (group->master == domain.id) found.push_back(std::move(*group));
      continue;
    }
    const int errnum = group.error().errnum;
    // In no group; gone since; or in a pool whose scheduler has none.
    if (errnum == ENOENT || errnum == ESRCH || errnum == EOPNOTSUPP) continue;
    return Error{errnum, sentence(errnum, {What::kGet, domain.id, domain.id}, domains, host_)};
  }
  return found;
}

int Commands::refused(int errnum, const std::string& text) {
  err_ << "nemesis: " << text << "\n";
  refused_.emplace_back(errnum, text);
  return end(exit_status(errnum));
}

int Commands::refused(int errnum, const Attempt& attempt, const Domains& domains) {
  return refused(errnum, sentence(errnum, attempt, domains, host_));
}

void Commands::done(const std::string& text) {
  done_.push_back(text);
  if (!options_.json) out_ << text << "\n";
}

/// In JSON, what was done and what was refused is said once, at the end.
int Commands::end(int status) {
  if (!options_.json) return status;
  nlohmann::ordered_json said = {{"dry_run", options_.dry_run}, {"done", done_}};
  said["refused"] = nlohmann::ordered_json::array();
  for (const auto& [errnum, text] : refused_)
    said["refused"].push_back({{"errno", errno_name(errnum)}, {"why", text}});
  out_ << said.dump() << "\n";
  return status;
}

int Commands::list(bool everything) {
  const auto known = domains();
  if (!known) return refused(known.error());
  const auto found = groups(*known);
  if (!found) return refused(found.error());
  if (!options_.json) {
    out_ << group_table(*found, *known);
    if (everything) out_ << "\n" << others_table(*found, *known);
    return kExitDone;
  }
  nlohmann::ordered_json said = {{"groups", nlohmann::ordered_json::array()}};
  for (const Group& group : *found) said["groups"].push_back(to_json(group, *known));
  if (everything) {
    said["in_no_group"] = nlohmann::ordered_json::array();
    for (const Domain& domain : known->all()) {
      if (std::ranges::none_of(*found, [&](const Group& group) { return has(group, domain.id); }))
        said["in_no_group"].push_back(to_json(domain));
    }
  }
  out_ << said.dump() << "\n";
  return kExitDone;
}

int Commands::show(const std::vector<std::string>& names) {
  const auto known = domains();
  if (!known) return refused(known.error());
  nlohmann::ordered_json said = {{"groups", nlohmann::ordered_json::array()}};
  std::string pages;
  for (const std::string& name : names) {
    const auto domain = known->find(name);
    if (!domain) return refused(domain.error());
    const auto group = host_.group(domain->id);
    if (!group) {
      const int errnum = group.error().errnum;
      if (errnum == ENOENT) return refused(errnum, known->title(domain->id) + " is in no group.");
      return refused(errnum, {What::kGet, domain->id, domain->id}, *known);
    }
    said["groups"].push_back(to_json(*group, *known));
    pages += (pages.empty() ? "" : "\n") + group_page(*group, *known);
  }
  out_ << (options_.json ? said.dump() + "\n" : pages);
  return kExitDone;
}

Result<std::vector<Domain>> Commands::find(const Domains& domains, const std::string& master,
                                           const std::vector<std::string>& members) {
  std::vector<Domain> found;
  const auto first = domains.find(master);
  if (!first) return first.error();
  found.push_back(*first);
  for (const std::string& name : members) {
    const auto one = domains.find(name);
    if (!one) return one.error();
    found.push_back(*one);
  }
  return found;
}

/// dom0 serves all others: that it is to wait for budget must be meant.
Status Commands::may_be_capped(const Domain& master, const Domain& member, const Domains& domains) {
  if (options_.force || (master.id != kDom0Id && member.id != kDom0Id)) return Done{};
  const auto cap = host_.cap(master.id);
  if (cap && *cap == 0) return Done{};
  if (!cap) {
    const int errnum = cap.error().errnum;
    if (errnum == EOPNOTSUPP) return Done{};
    return Error{errnum, sentence(errnum, {What::kAdd, master.id, member.id}, domains, host_)};
  }
  return Error{EPERM, "This would put dom0 under a cap of " + std::to_string(*cap) +
                          " %, and may stall the whole host; if that is meant, use --force."};
}

Status Commands::add_one(const Domain& master, const Domain& member, const Domains& domains) {
  Status added = host_.add(master.id, member.id);
  if (!added) {
    const Attempt attempt{What::kAdd, master.id, member.id};
    return Error{added.error().errnum, sentence(added.error().errnum, attempt, domains, host_)};
  }
  if (master.name.empty()) return Done{};  // it could not be found again
  Status noted = host_.remember(member.id, master.name);
  if (noted) return Done{};
  const Status undone = host_.remove(master.id, member.id);
  return Error{noted.error().errnum,
               noted.error().what + (undone ? "; it is not in the group" : "")};
}

/// The errno that it would be refused with, in the hypercall's order.
int Commands::foresee_add(const Domain& master, const Domain& member) {
  if (master.dying || member.dying) return ESRCH;
  const auto theirs = host_.group(member.id);
  const auto ours = host_.group(master.id);
  const bool same = master.id == member.id;
  for (const auto* group : {&ours, &theirs}) {
    if (*group || group->error().errnum == ENOENT) continue;
    const int errnum = group->error().errnum;
    return same && errnum == EOPNOTSUPP ? EINVAL : errnum;
  }
  if (same) return EINVAL;
  if (master.pool != member.pool) return EXDEV;
  if (theirs && theirs->master == master.id) return EEXIST;
  if (theirs || (ours && ours->master != master.id)) return EBUSY;
  return 0;
}

int Commands::add(const std::string& master, const std::vector<std::string>& members) {
  const auto known = domains();
  if (!known) return refused(known.error());
  const auto found = find(*known, master, members);
  if (!found) return refused(found.error());
  const Domain& head = found->front();
  for (auto one = found->begin() + 1; one != found->end(); ++one) {
    const Status allowed = may_be_capped(head, *one, *known);
    if (!allowed) return refused(allowed.error());
  }
  if (options_.dry_run) {
    for (auto one = found->begin() + 1; one != found->end(); ++one) {
      const int errnum = foresee_add(head, *one);
      if (errnum != 0) return refused(errnum, {What::kAdd, head.id, one->id}, *known);
      done(known->title(one->id) + " would join the group of " + known->title(head.id));
    }
    return end(kExitDone);
  }
  for (auto one = found->begin() + 1; one != found->end(); ++one) {
    const Status added = add_one(head, *one, *known);
    if (added) continue;
    // Not done half: those before it go again.
    std::string left;
    for (auto undo = found->begin() + 1; undo != one; ++undo) {
      if (!host_.remove(head.id, undo->id) || !host_.forget(undo->id))
        left += " " + known->title(undo->id) + " has joined, and could not be removed again.";
    }
    return refused(added.error().errnum, added.error().what + left);
  }
  for (auto one = found->begin() + 1; one != found->end(); ++one)
    done(known->title(one->id) + " has joined the group of " + known->title(head.id));
  return end(kExitDone);
}

int Commands::foresee(const Attempt& attempt, const Domains& domains) {
  const auto group = host_.group(attempt.master);
  if (!group) return group.error().errnum;
  if (attempt.what == What::kDestroy) return group->master == attempt.master ? 0 : ENOENT;
  if (attempt.what == What::kRemove && attempt.member == attempt.master) return EINVAL;
  const Domain* member = domains.find(attempt.member);
  if (member == nullptr || member->dying) return ESRCH;
  return group->master == attempt.master && has(*group, attempt.member) ? 0 : ENOENT;
}

int Commands::remove(const std::string& master, const std::vector<std::string>& members) {
  const auto known = domains();
  if (!known) return refused(known.error());
  const auto found = find(*known, master, members);
  if (!found) return refused(found.error());
  int status = kExitDone;
  for (auto one = found->begin() + 1; one != found->end(); ++one) {
    const Attempt attempt{What::kRemove, found->front().id, one->id};
    int errnum = 0;
    if (options_.dry_run) {
      errnum = foresee(attempt, *known);
    } else if (const Status removed = host_.remove(attempt.master, attempt.member); !removed) {
      errnum = removed.error().errnum;
    } else if (const Status forgotten = host_.forget(attempt.member); !forgotten) {
      err_ << "nemesis: " << forgotten.error().what << "\n";
      refused_.emplace_back(forgotten.error().errnum, forgotten.error().what);
      status = kExitRefused;
      continue;
    }
    if (errnum == 0) {
      done(known->title(one->id) + (options_.dry_run ? " would leave" : " has left") +
           " the group of " + known->title(found->front().id));
      continue;
    }
    const std::string text = sentence(errnum, attempt, *known, host_);
    err_ << "nemesis: " << text << "\n";
    refused_.emplace_back(errnum, text);
    status = exit_status(errnum);
  }
  return end(status);
}

int Commands::destroy(const std::string& master) {
  const auto known = domains();
  if (!known) return refused(known.error());
  const auto domain = known->find(master);
  if (!domain) return refused(domain.error());
  const Attempt attempt{What::kDestroy, domain->id, domain->id};
  const auto group = host_.group(domain->id);
  int errnum = options_.dry_run ? foresee(attempt, *known) : 0;
  if (!options_.dry_run) {
    if (const Status gone = host_.destroy(domain->id); !gone) errnum = gone.error().errnum;
  }
  if (errnum != 0) return refused(errnum, attempt, *known);
  if (group && !options_.dry_run) {
    for (const GroupDomain& one : group->domains) {
      if (one.id == domain->id) continue;
      const Status forgotten = host_.forget(one.id);
      if (!forgotten) return refused(forgotten.error());
    }
  }
  done("The group of " + known->title(domain->id) +
       (options_.dry_run ? " would be dissolved" : " is dissolved"));
  return end(kExitDone);
}

int Commands::set(const std::string& master, const std::string& domain, std::uint32_t weight) {
  const auto known = domains();
  if (!known) return refused(known.error());
  const auto found = find(*known, master, {domain});
  if (!found) return refused(found.error());
  const Attempt attempt{What::kSet, found->front().id, found->back().id};
  int errnum = 0;
  if (options_.dry_run) {
    errnum = foresee(attempt, *known);
  } else if (const Status set = host_.set_weight(attempt.master, attempt.member, weight); !set) {
    errnum = set.error().errnum;
  }
  if (errnum != 0) return refused(errnum, attempt, *known);
  const std::string value = weight == 0 ? "the default" : std::to_string(weight);
  done(known->title(attempt.member) + (options_.dry_run ? " would weigh " : " weighs ") + value +
       " in the group of " + known->title(attempt.master));
  return end(kExitDone);
}

int Commands::watch(const std::string& name, std::chrono::milliseconds interval,
                    std::optional<std::uint64_t> count) {
  auto known = domains();
  if (!known) return refused(known.error());
  const auto domain = known->find(name);
  if (!domain) return refused(domain.error());
  const Attempt attempt{What::kGet, domain->id, domain->id};
  auto before = host_.group(domain->id);
  if (!before) return refused(before.error().errnum, attempt, *known);
  for (std::uint64_t turn = 0; !count || turn < *count; ++turn) {
    host_.sleep(interval);
    auto now = host_.group(domain->id);
    if (!now && (now.error().errnum == ENOENT || now.error().errnum == ESRCH))
      return refused(now.error().errnum, known->title(domain->id) + " is in no group any more.");
    if (!now) return refused(now.error().errnum, attempt, *known);
    auto fresh = domains();  // who has joined has a name
    if (!fresh) return refused(fresh.error());
    known = std::move(fresh);
    // Another group, or one made anew: its counters have nothing to do with the last ones.
    if (now->master == before->master && now->since_made.usage_ns >= before->since_made.usage_ns) {
      out_ << (options_.json ? watch_json(*before, *now, *known).dump() + "\n"
                             : watch_lines(*before, *now, *known))
           << std::flush;
    }
    before = std::move(now);
  }
  return kExitDone;
}

}  // namespace nemesis
