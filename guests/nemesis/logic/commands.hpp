// SPDX-License-Identifier: GPL-2.0-only
//
// What nemesis does, once the command line is understood.  Each returns the exit status.
#pragma once

#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "domains.hpp"
#include "host.hpp"
#include "sentences.hpp"

namespace nemesis {

struct Options {
  bool json = false;
  bool dry_run = false;  ///< say what would be done, and whether it can be
  bool force = false;    ///< put dom0 under a cap
};

class Commands {
 public:
  /// All must outlive it.
  Commands(Host& host, std::ostream& out, std::ostream& err, Options options)
      : host_(host), out_(out), err_(err), options_(options) {}

  /// All groups; with `everything`, the domains that are in none, too.
  int list(bool everything);
  /// The groups of these domains.
  int show(const std::vector<std::string>& names);
  /// All of them, or none.
  int add(const std::string& master, const std::vector<std::string>& members);
  /// As many as can be.
  int remove(const std::string& master, const std::vector<std::string>& members);
  int destroy(const std::string& master);
  int set(const std::string& master, const std::string& domain, std::uint32_t weight);
  /// What the group of a domain had in each interval; for ever, or `count` times.
  int watch(const std::string& name, std::chrono::milliseconds interval,
            std::optional<std::uint64_t> count);

 private:
  [[nodiscard]] Result<Domains> domains();
  [[nodiscard]] Result<std::vector<Group>> groups(const Domains& domains);
  [[nodiscard]] Result<std::vector<Domain>> find(const Domains& domains, const std::string& master,
                                                 const std::vector<std::string>& members);
  [[nodiscard]] Status may_be_capped(const Domain& master, const Domain& member,
                                     const Domains& domains);
  [[nodiscard]] int foresee_add(const Domain& master, const Domain& member);
  [[nodiscard]] Status add_one(const Domain& master, const Domain& member, const Domains& domains);
  [[nodiscard]] int foresee(const Attempt& attempt, const Domains& domains);

  int refused(int errnum, const std::string& text);
  int refused(int errnum, const Attempt& attempt, const Domains& domains);
  int refused(const Error& error) { return refused(error.errnum, error.what); }
  void done(const std::string& text);
  int end(int status);

  Host& host_;
  std::ostream& out_;
  std::ostream& err_;
  Options options_;
  std::vector<std::string> done_;
  std::vector<std::pair<int, std::string>> refused_;
};

}  // namespace nemesis
