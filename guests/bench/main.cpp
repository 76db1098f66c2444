// SPDX-License-Identifier: GPL-2.0-only
//
// bench [--stock] [--echo=DOMID:PORT] [Google Benchmark's own options]
#include <charconv>
#include <cstdio>
#include <string_view>

#include "bench.hpp"

namespace {

/// "3:7" as 3 and 7.
bool parse_pair(std::string_view text, std::uint32_t& one, std::uint32_t& two) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) return false;
  const char* const middle = text.data() + colon;
  const char* const end = text.data() + text.size();
  return std::from_chars(text.data(), middle, one).ptr == middle &&
         std::from_chars(middle + 1, end, two).ptr == end;
}

}  // namespace

int main(int argc, char** argv) {
  constexpr std::string_view kEcho = "--echo=";
  benchmark::Initialize(&argc, argv);
  bool patched = true;
  const nemesis::XcHandle xch(xc_interface_open(nullptr, nullptr, 0));
  if (!xch) {
    std::fputs("bench: xc_interface_open failed; is this dom0 of a Xen?\n", stderr);
    return 1;
  }
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    std::uint32_t domid = 0;
    std::uint32_t port = 0;
    if (word == "--stock") {
      patched = false;
    } else if (word.starts_with(kEcho) && parse_pair(word.substr(kEcho.size()), domid, port)) {
      nemesis::bench::register_ping_pong(domid, port);
    } else {
      std::fprintf(stderr, "bench: %s is no option\n", argv[i]);
      return 1;
    }
  }
  nemesis::bench::register_domctls(xch.get(), patched);
  return benchmark::RunSpecifiedBenchmarks() == 0 ? 1 : 0;
}
