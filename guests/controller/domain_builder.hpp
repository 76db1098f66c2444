// SPDX-License-Identifier: GPL-2.0-only
//
// From an ELF image to a domain that only wants unpausing.  PV, or hardware-virtualised: PVH and
// HVM differ in what Xen emulates for them; neither has firmware or a device model.
#pragma once

#include <cstddef>
#include <span>

#include "foreign_page.hpp"
#include "hypervisor.hpp"
#include "result.hpp"
#include "tool_log.hpp"
#include "xen_libraries.hpp"

namespace nemesis {

/// A domain that is destroyed again unless it is released.
class OwnedDomain {
 public:
  /// Creates an empty domain, paused, with vCPUs, memory limit, and a TSC that is never emulated.
  /// label: the SID of FLASK's, 0 without it.
  [[nodiscard]] static Result<OwnedDomain> create(xc_interface* xch, ToolLog& log,
                                                  const DomainSpec& spec, std::uint32_t label,
                                                  const xen_domctl_createdomain& configuration);

  OwnedDomain(OwnedDomain&& other) noexcept;
  OwnedDomain(const OwnedDomain&) = delete;
  OwnedDomain& operator=(const OwnedDomain&) = delete;
  OwnedDomain& operator=(OwnedDomain&&) = delete;
  ~OwnedDomain();

  [[nodiscard]] DomainId id() const { return id_; }
  DomainId release();

 private:
  OwnedDomain(xc_interface* xch, DomainId id) : xch_(xch), id_(id), owned_(true) {}
  xc_interface* xch_;
  DomainId id_;
  bool owned_;
};

struct BuiltDomain {
  OwnedDomain domain;
  ForeignPage report;  ///< read-only
  ForeignPage device;  ///< read-only
  xen_pfn_t report_frame;
};

struct BuildContext {
  xc_interface* xch;
  xenforeignmemory_handle* memory;
  ToolLog& log;
  std::uint32_t label;  ///< FLASK's SID; 0 without FLASK
};

[[nodiscard]] Result<BuiltDomain> build_domain(const BuildContext& context, const DomainSpec& spec,
                                               const GuestParameters& parameters,
                                               std::span<const std::byte> image);

/// Checks that the page is a guest's of ours, and leaves the parameters in it.
[[nodiscard]] Status hand_over(const BuildContext& context, const DomainSpec& spec, DomainId id,
                               xen_pfn_t frame, const GuestParameters& parameters);

}  // namespace nemesis
