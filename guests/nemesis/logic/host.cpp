// SPDX-License-Identifier: GPL-2.0-only
#include "host.hpp"

namespace nemesis {

Counters& Counters::operator+=(const Counters& other) {
  usage_ns += other.usage_ns;
  nr_periods += other.nr_periods;
  nr_throttled += other.nr_throttled;
  throttled_ns += other.throttled_ns;
  return *this;
}

Counters Counters::operator-(const Counters& before) const {
  return {.usage_ns = usage_ns - before.usage_ns,
          .nr_periods = nr_periods - before.nr_periods,
          .nr_throttled = nr_throttled - before.nr_throttled,
          .throttled_ns = throttled_ns - before.throttled_ns};
}

}  // namespace nemesis
