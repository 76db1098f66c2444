// SPDX-License-Identifier: GPL-2.0-only
#include "command_line.hpp"

#include <CLI/CLI.hpp>
#include <cmath>
#include <ostream>

#include "commands.hpp"
#include "sentences.hpp"

namespace nemesis {

namespace {

constexpr std::uint32_t kMostWeight = 65535;
constexpr double kMsPerS = 1000.0;

struct Words {
  Options options;
  bool everything = false;
  std::string master;
  std::string domain;
  std::vector<std::string> names;
  std::uint32_t weight = 0;
  double interval_s = 1.0;
  std::optional<std::uint64_t> count;
};

void describe(CLI::App& app, Words& words) {
  app.require_subcommand(1);
  app.fallthrough();
  app.footer(
      "A domain is named by its id or its name.  A member runs on the cap and weight of its\n"
      "master; its own sleep meanwhile.  See nemesis(8).");
  app.add_flag("--json", words.options.json, "Print JSON");
  app.add_flag("--dry-run", words.options.dry_run, "Say what would be done, and whether it can be");

  CLI::App* list = app.add_subcommand("list", "All groups");
  list->add_flag("--all", words.everything, "The domains that are in none, too");

  CLI::App* show = app.add_subcommand("show", "The group of a domain, domain by domain");
  show->add_option("DOMAIN", words.names, "Any domain of the group")->required();

  CLI::App* add = app.add_subcommand("add", "Let domains run on the cap and weight of a master");
  add->add_option("MASTER", words.master)->required();
  add->add_option("MEMBER", words.names, "All of them join, or none does")->required();
  add->add_flag("--force", words.options.force, "Put dom0 under a cap");

  CLI::App* remove = app.add_subcommand("remove", "Let domains run on their own again");
  remove->add_option("MASTER", words.master)->required();
  remove->add_option("MEMBER", words.names)->required();

  CLI::App* destroy = app.add_subcommand("destroy", "Dissolve a group");
  destroy->add_option("MASTER", words.master)->required();

  CLI::App* set = app.add_subcommand("set", "What a domain weighs against the others of its group");
  set->add_option("MASTER", words.master)->required();
  set->add_option("DOMAIN", words.domain, "The master or a member")->required();
  set->add_option("WEIGHT", words.weight, "1 to 65535; 0: the default, the same for all")
      ->required()
      ->check(CLI::Range(std::uint32_t{0}, kMostWeight));

  CLI::App* watch = app.add_subcommand("watch", "What a group gets, as it gets it");
  watch->add_option("DOMAIN", words.master, "Any domain of the group")->required();
  watch->add_option("--interval", words.interval_s, "Seconds between two lines")
      ->check(CLI::Range(0.01, 86400.0))
      ->capture_default_str();
  watch->add_option("--count", words.count, "Lines; for ever, where it is not given");
}

int act(const CLI::App& app, const Words& words, Commands& commands) {
  const std::string name = app.get_subcommands().front()->get_name();
  if (name == "list") return commands.list(words.everything);
  if (name == "show") return commands.show(words.names);
  if (name == "add") return commands.add(words.master, words.names);
  if (name == "remove") return commands.remove(words.master, words.names);
  if (name == "destroy") return commands.destroy(words.master);
  if (name == "set") return commands.set(words.master, words.domain, words.weight);
  const auto interval = std::chrono::milliseconds(std::lround(words.interval_s * kMsPerS));
  return commands.watch(words.master, interval, words.count);
}

}  // namespace

int run_command_line(std::span<const char* const> words, const OpenHost& open, std::ostream& out,
                     std::ostream& err) {
  Words understood;
  CLI::App app("Scheduling domains: several domains on the CPU time of one.", "nemesis");
  describe(app, understood);
  try {
    app.parse(static_cast<int>(words.size()), words.data());
  } catch (const CLI::ParseError& error) {
    return app.exit(error, out, err) == 0 ? kExitDone : kExitUsage;
  }
  auto host = open();
  if (!host) {
    err << "nemesis: " << host.error().what << "\n";
    return exit_status(host.error().errnum);
  }
  Commands commands(**host, out, err, understood.options);
  return act(app, understood, commands);
}

}  // namespace nemesis
