// SPDX-License-Identifier: GPL-2.0-only
#include "xen_trace.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <span>

extern "C" {
#include <xen/trace.h>
}

namespace nemesis {

namespace {

// Of a pCPU: 4 MiB are 40 000 switches; all together no more than 64 MiB.
constexpr unsigned long kMostPages = 1024;
constexpr unsigned long kMostPagesOfAll = 16'384;
// As long as the longest record (public/trace.h): less room than this may have lost one.
constexpr std::size_t kRecordBytes = sizeof(t_rec);
// What a switch is known by, with the time that the one who goes ran; wake-ups; and the events of
// groups.
constexpr std::uint32_t kTraced[] = {TRC_SCHED_WAKE,
                                     TRC_SCHED_SWITCH_INFPREV,
                                     TRC_SCHED_SWITCH_INFNEXT,
                                     TRC_SCHED_SCHEDDOM_JOIN,
                                     TRC_SCHED_SCHEDDOM_LEAVE,
                                     TRC_SCHED_SCHEDDOM_DISSOLVE,
                                     TRC_SCHED_SCHEDDOM_THROTTLE,
                                     TRC_SCHED_SCHEDDOM_UNTHROTTLE};

/// Frames of the hypervisor's, mapped one after the other.
class Frames {
 public:
  static Result<Frames> map(xenforeignmemory_handle* memory, std::span<const xen_pfn_t> frames) {
    void* data =
        xenforeignmemory_map(memory, DOMID_XEN, PROT_READ, frames.size(), frames.data(), nullptr);
    if (data == nullptr) return Error{errno, "cannot map Xen's trace buffers"};
    return Frames(memory, data, frames.size());
  }
  Frames(Frames&& other) noexcept
      : memory_(other.memory_), data_(std::exchange(other.data_, nullptr)), count_(other.count_) {}
  Frames& operator=(Frames&&) = delete;
  Frames(const Frames&) = delete;
  Frames& operator=(const Frames&) = delete;
  ~Frames() {
    if (data_ != nullptr) xenforeignmemory_unmap(memory_, data_, count_);
  }
  [[nodiscard]] std::span<const std::byte> bytes() const {
    return {static_cast<const std::byte*>(data_), count_ * XC_PAGE_SIZE};
  }

 private:
  Frames(xenforeignmemory_handle* memory, void* data, std::size_t count)
      : memory_(memory), data_(data), count_(count) {}

  xenforeignmemory_handle* memory_;
  void* data_;
  std::size_t count_;
};

template <typename T>
T word_at(std::span<const std::byte> bytes, std::size_t offset) {
  T value{};
  std::memcpy(&value, bytes.subspan(offset, sizeof(T)).data(), sizeof(T));
  return value;
}

}  // namespace

Result<XenTrace> XenTrace::start(xc_interface* xch, xenforeignmemory_handle* memory) {
  XenTrace trace(xch, memory);
  xc_physinfo_t physinfo{};
  if (xc_physinfo(xch, &physinfo) != 0) return Error{errno, "xc_physinfo"};
  trace.pcpus_ = physinfo.nr_cpus;
  if (xc_tbuf_set_evt_mask(xch, TRC_SCHED_VERBOSE) != 0)
    return Error{errno, "xc_tbuf_set_evt_mask"};
  const unsigned long pages = std::min(kMostPages, kMostPagesOfAll / trace.pcpus_);
  if (xc_tbuf_enable(xch, pages, &trace.info_frame_, &trace.info_bytes_) != 0)
    return Error{errno, "xc_tbuf_enable: no memory for Xen's trace buffers?"};
  return trace;
}

Result<std::vector<TraceBuffer>> XenTrace::stop() {
  if (xc_tbuf_disable(xch_) != 0) return Error{errno, "xc_tbuf_disable"};

  std::vector<xen_pfn_t> info_frames((info_bytes_ + XC_PAGE_SIZE - 1) / XC_PAGE_SIZE);
  for (std::size_t i = 0; i < info_frames.size(); ++i) info_frames[i] = info_frame_ + i;
  const auto info = Frames::map(memory_, info_frames);
  if (!info) return info.error();
  const std::size_t pages = word_at<std::uint16_t>(info->bytes(), 0);

  std::vector<TraceBuffer> buffers;
  for (std::uint32_t pcpu = 0; pcpu < pcpus_; ++pcpu) {
    const std::size_t list =
        word_at<std::uint16_t>(info->bytes(), sizeof(std::uint16_t) * (1 + pcpu));
    std::vector<xen_pfn_t> frames(pages);
    for (std::size_t i = 0; i < pages; ++i) {
      frames[i] = word_at<std::uint32_t>(info->bytes(), sizeof(std::uint32_t) * (list + i));
    }
    const auto buffer = Frames::map(memory_, frames);
    if (!buffer) return buffer.error();
    // Nobody has consumed anything, so the records are from the beginning to `prod`.
    const std::size_t end = word_at<std::uint32_t>(buffer->bytes(), offsetof(t_buf, prod));
    const auto data = buffer->bytes().subspan(sizeof(t_buf));
    if (end + kRecordBytes > data.size()) {
      return Error{ENOBUFS, "trace: the buffer of pCPU " + std::to_string(pcpu) +
                                " is full: make the scenario shorter"};
    }
    auto kept = only_events(data.first(end), kTraced);
    if (!kept) return kept.error();
    buffers.push_back({.pcpu = pcpu, .records = std::move(*kept)});
  }
  return buffers;
}

}  // namespace nemesis
