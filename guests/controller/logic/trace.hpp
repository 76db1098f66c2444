// SPDX-License-Identifier: GPL-2.0-only
//
// The hypervisor's trace, as it comes out of Xen's buffers: records of a pCPU, one after the other.
//
// A record (public/trace.h) is a word (28 bits event, 3 bits count of data words, 1 bit that a time
// stamp follows), the TSC in two words where that bit is set, and the data.  What is handed on are
// whole records, their bytes as they were; what they mean is the harness's to say.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "result.hpp"

namespace nemesis {

struct TraceBuffer {
  std::uint32_t pcpu = 0;
  std::vector<std::byte> records;
};

/// An instant by two clocks, so that a time stamp can be told from t0.
struct TraceClock {
  std::uint64_t t_ns = 0;  ///< from t0
  std::uint64_t tsc = 0;
};

/// The records of those events alone, in their order; EPROTO where the bytes end inside a record.
[[nodiscard]] Result<std::vector<std::byte>> only_events(std::span<const std::byte> records,
                                                         std::span<const std::uint32_t> events);

/// RFC 4648, with padding.
[[nodiscard]] std::string base64(std::span<const std::byte> bytes);

}  // namespace nemesis
