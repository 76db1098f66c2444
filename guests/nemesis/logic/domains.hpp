// SPDX-License-Identifier: GPL-2.0-only
//
// The domains of a host, as people name them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "host.hpp"

namespace nemesis {

class Domains {
 public:
  explicit Domains(std::vector<Domain> all) : all_(std::move(all)) {}

  /// A domain by id or by name; ESRCH: there is none, or several have that name.
  [[nodiscard]] Result<Domain> find(std::string_view id_or_name) const;
  [[nodiscard]] const Domain* find(DomainId id) const;
  /// Its name, or "domain 7".
  [[nodiscard]] std::string name(DomainId id) const;
  /// With its id, as in "web (3)".
  [[nodiscard]] std::string title(DomainId id) const;
  [[nodiscard]] const std::vector<Domain>& all() const { return all_; }

 private:
  std::vector<Domain> all_;
};

}  // namespace nemesis
