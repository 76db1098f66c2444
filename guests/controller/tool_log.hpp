// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <string>

#include "xen_libraries.hpp"

namespace nemesis {

/// Keeps the first error that libxenctrl or libxenguest speaks of, which says more than the errno
/// it ends in.  Nothing is printed: dom0's console is the hypervisor's serial line, and writing
/// there costs time that is being measured.
class ToolLog {
 public:
  ToolLog();
  ToolLog(const ToolLog&) = delete;
  ToolLog& operator=(const ToolLog&) = delete;
  ~ToolLog() = default;

  [[nodiscard]] xentoollog_logger* logger() { return &logger_.base; }
  /// The message, and forgets it; empty where there was none.
  [[nodiscard]] std::string take();

 private:
  struct Logger {
    xentoollog_logger base;  // first, so that the callback finds its Logger
    ToolLog* owner;
  };
  static void message(xentoollog_logger* logger, xentoollog_level level, int errnum,
                      const char* context, const char* format, va_list arguments)
      __attribute__((format(printf, 5, 0)));

  Logger logger_;
  std::string first_error_;
};

}  // namespace nemesis
