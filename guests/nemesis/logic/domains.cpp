// SPDX-License-Identifier: GPL-2.0-only
#include "domains.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <iterator>

namespace nemesis {

namespace {

std::optional<DomainId> number(std::string_view text) {
  DomainId id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return id;
}

}  // namespace

const Domain* Domains::find(DomainId id) const {
  const auto found = std::ranges::find(all_, id, &Domain::id);
  return found == all_.end() ? nullptr : &*found;
}

Result<Domain> Domains::find(std::string_view id_or_name) const {
  if (const auto id = number(id_or_name)) {
    if (const Domain* found = find(*id)) return *found;
    return Error{ESRCH, "There is no domain " + std::string(id_or_name) + "."};
  }
  std::vector<Domain> found;
  std::ranges::copy_if(all_, std::back_inserter(found),
                       [&](const Domain& one) { return one.name == id_or_name; });
  if (found.size() == 1) return found.front();
  if (found.empty()) {
    return Error{ESRCH, "There is no domain called " + std::string(id_or_name) +
                            "; `nemesis list --all` shows those there are."};
  }
  std::string ids;
  for (const Domain& one : found) ids += (ids.empty() ? "" : ", ") + std::to_string(one.id);
  return Error{ESRCH, "Several domains are called " + std::string(id_or_name) +
                          ": name the one you mean by its id (" + ids + ")."};
}

std::string Domains::name(DomainId id) const {
  const Domain* found = find(id);
  if (found == nullptr || found->name.empty()) return "domain " + std::to_string(id);
  return found->name;
}

std::string Domains::title(DomainId id) const {
  const Domain* found = find(id);
  if (found == nullptr || found->name.empty()) return "domain " + std::to_string(id);
  return found->name + " (" + std::to_string(id) + ")";
}

}  // namespace nemesis
