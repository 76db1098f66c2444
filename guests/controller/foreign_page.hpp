// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "result.hpp"
#include "xen_libraries.hpp"

namespace nemesis {

/// One page of another domain, mapped.  While it is, the domain cannot die wholly: unmap before
/// destroying it.
class ForeignPage {
 public:
  /// frame: mfn of a PV domain, gfn of any other.  memory must outlive the result.
  [[nodiscard]] static Result<ForeignPage> map(xenforeignmemory_handle* memory, std::uint32_t domid,
                                               xen_pfn_t frame, bool writable);

  ForeignPage(ForeignPage&& other) noexcept;
  ForeignPage& operator=(ForeignPage&& other) noexcept;
  ForeignPage(const ForeignPage&) = delete;
  ForeignPage& operator=(const ForeignPage&) = delete;
  ~ForeignPage();

  [[nodiscard]] void* data() const { return data_; }

 private:
  ForeignPage(xenforeignmemory_handle* memory, void* data) : memory_(memory), data_(data) {}
  xenforeignmemory_handle* memory_;
  void* data_;
};

}  // namespace nemesis
