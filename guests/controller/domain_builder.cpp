// SPDX-License-Identifier: GPL-2.0-only
#include "domain_builder.hpp"

#include <cerrno>
#include <utility>

namespace nemesis {

namespace {

// Xen's TSC_MODE_NEVER_EMULATE; its public headers leave the modes of XEN_DOMCTL_settscinfo without
// names.
constexpr std::uint32_t kTscNeverEmulate = 2;

// A hardware-virtualised guest: nested page tables, a hole for devices below 4 GiB, and the pages
// that libxenguest puts on top of its memory.
constexpr std::uint64_t kPagingBytes = 2 << 20;
constexpr std::uint64_t kMmioStart = 0xf000'0000;
constexpr std::uint64_t kMmioEnd = 0x1'0000'0000;
constexpr std::uint64_t kSpecialKib = 1024;

std::uint32_t emulation_flags(DomainKind kind) {
  return kind == DomainKind::kHvm ? XEN_X86_EMU_ALL & ~XEN_X86_EMU_VPCI : XEN_X86_EMU_LAPIC;
}

/// The error of the libxenctrl call that just failed for the domain called name.
Error failure(ToolLog& log, const std::string& name, const std::string& step) {
  const int errnum = errno;
  const std::string told = log.take();
  return Error{errnum, "domain " + name + ": " + step + (told.empty() ? "" : ": " + told)};
}

}  // namespace

Result<OwnedDomain> OwnedDomain::create(xc_interface* xch, ToolLog& log, const DomainSpec& spec,
                                        std::uint32_t label,
                                        const xen_domctl_createdomain& configuration) {
  xen_domctl_createdomain created = configuration;
  created.max_vcpus = spec.vcpus;
  created.ssidref = label;
  std::uint32_t domid = 0;  // 0: Xen picks one
  if (xc_domain_create(xch, &domid, &created) != 0)
    return failure(log, spec.name, "xc_domain_create");

  OwnedDomain domain(xch, domid);
  // Of a PV guest, page tables and start-info page come out of memory_kib.
  const std::uint64_t extra_kib = spec.kind == DomainKind::kPv ? 0 : kSpecialKib;
  if (xc_domain_setmaxmem(xch, domid, spec.memory_kib + extra_kib) != 0)
    return failure(log, spec.name, "xc_domain_setmaxmem");
  if (xc_domain_max_vcpus(xch, domid, spec.vcpus) != 0)
    return failure(log, spec.name, "xc_domain_max_vcpus");
  // Emulated, every look at the clock would trap: slow, and seen by the scheduler under test.
  if (xc_domain_set_tsc_info(xch, domid, kTscNeverEmulate, 0, 0, 0) != 0) {
    return failure(log, spec.name, "xc_domain_set_tsc_info");
  }
  return domain;
}

OwnedDomain::OwnedDomain(OwnedDomain&& other) noexcept
    : xch_(other.xch_), id_(other.id_), owned_(std::exchange(other.owned_, false)) {}

OwnedDomain::~OwnedDomain() {
  if (owned_) xc_domain_destroy(xch_, id_);
}

DomainId OwnedDomain::release() {
  owned_ = false;
  return id_;
}

Status hand_over(const BuildContext& context, const DomainSpec& spec, DomainId id, xen_pfn_t frame,
                 const GuestParameters& parameters) {
  auto page = ForeignPage::map(context.memory, id, frame, true);
  if (!page) return page.error();
  ReportHeader& header = static_cast<ReportPage*>(page->data())->header;
  if (header.magic != kReportMagic || header.format != kReportFormat) {
    return Error{EINVAL, "domain " + spec.name + ": image " + spec.image +
                             " does not open with a report page of format " +
                             std::to_string(kReportFormat) +
                             "; build it and the controller together"};
  }
  header.parameters = parameters;
  return Done{};
}

Result<BuiltDomain> build_domain(const BuildContext& context, const DomainSpec& spec,
                                 const GuestParameters& parameters,
                                 std::span<const std::byte> image) {
  const bool hvm = spec.kind != DomainKind::kPv;
  xen_domctl_createdomain configuration{};
  configuration.max_evtchn_port = 127;
  configuration.max_grant_frames = 1;
  configuration.max_maptrack_frames = 0;
  configuration.grant_opts = XEN_DOMCTL_GRANT_version(1);
  if (hvm) {
    configuration.flags = XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap;
    configuration.arch.emulation_flags = emulation_flags(spec.kind);
  }
  auto domain = OwnedDomain::create(context.xch, context.log, spec, context.label, configuration);
  if (!domain) return domain.error();
  if (hvm && xc_set_paging_mempool_size(context.xch, domain->id(), kPagingBytes) != 0) {
    return failure(context.log, spec.name, "xc_set_paging_mempool_size");
  }

  // No console, no xenstore: their event channels stay 0 and their pages unheeded.
  const DomainImageHandle dom(xc_dom_allocate(context.xch, "", nullptr));
  if (!dom) return failure(context.log, spec.name, "xc_dom_allocate");
  dom->container_type =
      hvm ? xc_dom_image::XC_DOM_HVM_CONTAINER : xc_dom_image::XC_DOM_PV_CONTAINER;
  dom->max_vcpus = spec.vcpus;
  const auto memory_mib = static_cast<unsigned>(spec.memory_kib / 1024);
  if (hvm) {
    dom->target_pages = spec.memory_kib * 1024 / XC_PAGE_SIZE;
    dom->lowmem_end = spec.memory_kib * 1024;
    dom->mmio_start = kMmioStart;
    dom->mmio_size = kMmioEnd - kMmioStart;
  }

  const char* step = nullptr;
  if (xc_dom_kernel_mem(dom.get(), image.data(), image.size()) != 0) {
    step = "xc_dom_kernel_mem";
  } else if (xc_dom_boot_xen_init(dom.get(), context.xch, domain->id()) != 0) {
    step = "xc_dom_boot_xen_init";
  } else if (xc_dom_parse_image(dom.get()) != 0) {
    step = "xc_dom_parse_image";
  } else if (xc_dom_mem_init(dom.get(), memory_mib) != 0) {
    step = "xc_dom_mem_init";
  } else if (xc_dom_boot_mem_init(dom.get()) != 0) {
    step = "xc_dom_boot_mem_init";
  } else if (xc_dom_build_image(dom.get()) != 0) {
    step = "xc_dom_build_image";
  } else if (xc_dom_boot_image(dom.get()) != 0) {
    step = "xc_dom_boot_image";
  }
  if (step != nullptr) return failure(context.log, spec.name, step);

  const xen_pfn_t frame = hvm ? kReportPfn : xc_dom_p2m(dom.get(), kReportPfn);
  if (const Status status = hand_over(context, spec, domain->id(), frame, parameters); !status) {
    return status.error();
  }
  auto report = ForeignPage::map(context.memory, domain->id(), frame, false);
  if (!report) return report.error();
  const xen_pfn_t device_frame = hvm ? kDevicePfn : xc_dom_p2m(dom.get(), kDevicePfn);
  auto device = ForeignPage::map(context.memory, domain->id(), device_frame, false);
  if (!device) return device.error();
  return BuiltDomain{std::move(*domain), std::move(*report), std::move(*device), frame};
}

}  // namespace nemesis
