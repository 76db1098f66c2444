// SPDX-License-Identifier: GPL-2.0-only
#include "tool_log.hpp"

#include <array>
#include <cstdarg>
#include <cstdio>
#include <utility>

namespace nemesis {

ToolLog::ToolLog()
    : logger_{.base = {.vmessage = &message, .progress = nullptr, .destroy = nullptr},
              .owner = this} {}

std::string ToolLog::take() {
  return std::exchange(first_error_, {});
}

void ToolLog::message(xentoollog_logger* logger, xentoollog_level level, int /*errnum*/,
                      const char* /*context*/, const char* format, va_list arguments) {
  ToolLog& self = *reinterpret_cast<Logger*>(logger)->owner;
  if (level < XTL_ERROR || !self.first_error_.empty()) return;
  std::array<char, 512> text{};
  (void)std::vsnprintf(text.data(), text.size(), format, arguments);
  self.first_error_ = text.data();
}

}  // namespace nemesis
