// SPDX-License-Identifier: GPL-2.0-only
#include "foreign_page.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <string>
#include <utility>

namespace nemesis {

Result<ForeignPage> ForeignPage::map(xenforeignmemory_handle* memory, std::uint32_t domid,
                                     xen_pfn_t frame, bool writable) {
  const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  void* mapped = xenforeignmemory_map(memory, domid, protection, 1, &frame, nullptr);
  if (mapped == nullptr) {
    return Error{
        errno, "cannot map frame " + std::to_string(frame) + " of domain " + std::to_string(domid)};
  }
  return ForeignPage(memory, mapped);
}

ForeignPage::ForeignPage(ForeignPage&& other) noexcept
    : memory_(other.memory_), data_(std::exchange(other.data_, nullptr)) {}

ForeignPage& ForeignPage::operator=(ForeignPage&& other) noexcept {
  std::swap(memory_, other.memory_);
  std::swap(data_, other.data_);
  return *this;
}

ForeignPage::~ForeignPage() {
  if (data_ != nullptr) xenforeignmemory_unmap(memory_, data_, 1);
}

}  // namespace nemesis
