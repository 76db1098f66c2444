// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <map>
#include <memory>
#include <string>

#include "host.hpp"
#include "tool_log.hpp"
#include "xen_libraries.hpp"

extern "C" {
#include <xenstore.h>
}

namespace nemesis {

struct XenstoreClose {
  void operator()(xs_handle* handle) const { xs_close(handle); }
};

/// The host of this dom0, by libxenctrl; names by libxenstore, and none where no xenstored answers.
class XenHost final : public Host {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Host>> open();

  [[nodiscard]] std::string xen_version() override;
  [[nodiscard]] bool interface_matches() override;
  [[nodiscard]] Result<std::vector<Domain>> domains() override;
  [[nodiscard]] Result<Group> group(DomainId any) override;
  [[nodiscard]] Result<std::uint32_t> cap(DomainId id) override;
  [[nodiscard]] Status add(DomainId master, DomainId member) override;
  [[nodiscard]] Status remove(DomainId master, DomainId member) override;
  [[nodiscard]] Status destroy(DomainId master) override;
  [[nodiscard]] Status set_weight(DomainId master, DomainId id, std::uint32_t weight) override;
  [[nodiscard]] Status remember(DomainId member, const std::string& master_name) override;
  [[nodiscard]] Status forget(DomainId member) override;
  void sleep(std::chrono::milliseconds time) override;

 private:
  XenHost() = default;
  [[nodiscard]] Status outcome(int result, const char* call);
  [[nodiscard]] Result<int> scheduler_of_pool(std::uint32_t pool);
  [[nodiscard]] std::optional<std::string> read(const std::string& path) const;

  ToolLog log_;  // first: the handle below writes to it to its end
  XcHandle xch_;
  std::unique_ptr<xs_handle, XenstoreClose> store_;
};

}  // namespace nemesis
