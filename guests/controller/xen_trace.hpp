// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <vector>

#include "result.hpp"
#include "trace.hpp"
#include "xen_libraries.hpp"

namespace nemesis {

/// Xen's trace buffers (a pCPU each), switched on.  They are read once, after the end: reading them
/// meanwhile would be one more thing that runs.
class XenTrace {
 public:
  /// The arguments must outlive the result.
  [[nodiscard]] static Result<XenTrace> start(xc_interface* xch, xenforeignmemory_handle* memory);

  /// Switches tracing off; ENOBUFS where a buffer is full, as what came then is lost.
  [[nodiscard]] Result<std::vector<TraceBuffer>> stop();

 private:
  XenTrace(xc_interface* xch, xenforeignmemory_handle* memory) : xch_(xch), memory_(memory) {}

  xc_interface* xch_;
  xenforeignmemory_handle* memory_;
  unsigned long info_frame_ = 0;
  unsigned long info_bytes_ = 0;
  std::uint32_t pcpus_ = 0;
};

}  // namespace nemesis
