// SPDX-License-Identifier: GPL-2.0-only
//
// The toolstack's C headers, which know nothing of C++, and owners of their handles.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

extern "C" {
#include <xencall.h>
#include <xenctrl.h>
#include <xenforeignmemory.h>
#include <xenguest.h>
#include <xentoollog.h>
}

namespace nemesis {

struct XcClose {
  void operator()(xc_interface* xch) const { xc_interface_close(xch); }
};
using XcHandle = std::unique_ptr<xc_interface, XcClose>;

struct CallClose {
  void operator()(xencall_handle* handle) const { xencall_close(handle); }
};
using CallHandle = std::unique_ptr<xencall_handle, CallClose>;

struct ForeignMemoryClose {
  void operator()(xenforeignmemory_handle* handle) const { xenforeignmemory_close(handle); }
};
using ForeignMemoryHandle = std::unique_ptr<xenforeignmemory_handle, ForeignMemoryClose>;

struct DomainImageRelease {
  void operator()(xc_dom_image* image) const { xc_dom_release(image); }
};
using DomainImageHandle = std::unique_ptr<xc_dom_image, DomainImageRelease>;

}  // namespace nemesis
