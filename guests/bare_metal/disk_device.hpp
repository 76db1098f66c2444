// SPDX-License-Identifier: GPL-2.0-only
//
// The disk's device model (include/nemesis/disk.hpp), apart from how accesses reach it: a state
// machine that is tested on the host.
//
// It believes nothing that the guest says: each access and each field of a request is checked
// before anything is changed, and a request is copied out of the guest's memory once, so that the
// guest cannot change it in between.
//
// Host: what the device wants of where it runs.
//   std::uint8_t* map(std::uint64_t frame)  the guest's frame, writable; null if it has none there
//   std::uint64_t clock_ns()                Xen system time
//   void work()                             does the work that a request costs
//   void look()                             called between two stretches of up to one block's work
#pragma once

#include <cstddef>
#include <cstdint>

#include "nemesis/device_page.hpp"
#include "nemesis/disk.hpp"

namespace nemesis::disk {

inline constexpr std::uint64_t kAllOnes = ~std::uint64_t{0};

/// Content, and the checksum that came with it.
struct Store {
  bool written[kBlocks];
  std::uint64_t checksums[kBlocks];
  std::uint64_t words[kBlocks][kMaxBlockBytes / sizeof(std::uint64_t)];
};

struct Access {
  bool port;
  bool write;
  bool plain;             ///< one access, its data in it; not one of a string instruction
  std::uint64_t address;  ///< port, or guest-physical
  std::uint32_t bytes;
  std::uint64_t data;
};

template <typename Host>
class Device {
 public:
  /// block_bytes: a multiple of kUnitBytes, kMaxBlockBytes at most.
  Device(Host& host, std::uint32_t block_bytes, Store& store, DeviceCounts& counts)
      : host_(host), block_bytes_(block_bytes), store_(store), counts_(counts) {}

  /// What a read reads; of no meaning for a write.
  std::uint64_t access(const Access& access) {
    const std::uint64_t data = access.port ? port(access) : mmio(access);
    add(counts_.accesses);
    return data;
  }

 private:
  /// Out of the guest's memory; the compiler may not look there a second time.
  static void copy(void* to, const void* from, std::size_t bytes) {
    __builtin_memcpy(to, from, bytes);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
  }

  std::uint64_t reject() {
    add(counts_.rejected);
    return kAllOnes;
  }

  std::uint64_t port(const Access& access) {
    if (!access.plain || access.bytes != sizeof(std::uint32_t)) return reject();
    const auto value = static_cast<std::uint32_t>(access.data);
    switch (access.address - kPorts) {
      case kIdentityPort:
        return access.write ? reject() : kIdentity;
      case kBlocksPort:
        return access.write ? reject() : kBlocks;
      case kBlockBytesPort:
        return access.write ? reject() : block_bytes_;
      case kMailboxPort:
        if (!access.write) return reject();
        mailbox_ = value;
        has_mailbox_ = true;
        return 0;
      case kDoorbellPort:
        return access.write ? ring(value) : reject();
      default:
        return reject();
    }
  }

  std::uint64_t mmio(const Access& access) {
    if (!access.plain || access.bytes != sizeof(std::uint64_t)) return reject();
    switch (access.address - kMmio) {
      case kClockMmio:
        return access.write ? reject() : host_.clock_ns();
      case kDoorbellMmio:
        return access.write ? ring(access.data) : reject();
      default:
        return reject();
    }
  }

  std::uint64_t ring(std::uint64_t slot) {
    host_.work();
    if (!has_mailbox_ || slot >= kSlots) return reject();
    std::uint8_t* page = host_.map(mailbox_);
    if (page == nullptr) return reject();
    auto* shared = reinterpret_cast<Request*>(page) + slot;
    Request request;
    copy(&request, shared, sizeof(request));
    const Status status = serve(request);
    // The frame may be the mailbox's own page, or have taken its place in the host's window.
    page = host_.map(mailbox_);
    if (page == nullptr) return reject();
    shared = reinterpret_cast<Request*>(page) + slot;
    shared->checksum = request.checksum;
    __atomic_store_n(&shared->status, status, __ATOMIC_RELEASE);
    add(counts_.served);
    if (status != Status::kDone && status != Status::kUnwritten) add(counts_.rejected);
    return 0;
  }

  Status serve(Request& request) {
    if (request.operation != Operation::kRead && request.operation != Operation::kWrite) {
      return Status::kBadOperation;
    }
    if (request.block >= kBlocks) return Status::kBadBlock;
    if (request.bytes != block_bytes_) return Status::kBadSize;
    auto* data = reinterpret_cast<std::uint64_t*>(host_.map(request.frame));
    if (data == nullptr) return Status::kBadFrame;
    std::uint64_t* kept = store_.words[request.block];
    if (request.operation == Operation::kRead) {
      if (!store_.written[request.block]) return Status::kUnwritten;
      __builtin_memcpy(data, kept, block_bytes_);
      request.checksum = store_.checksums[request.block];
      return Status::kDone;
    }
    // From our copy: what is checked is what is kept.
    copy(incoming_, data, block_bytes_);
    host_.look();
    if (checksum(request.block, incoming_, block_bytes_ / sizeof(std::uint64_t)) !=
        request.checksum) {
      return Status::kBadChecksum;
    }
    host_.look();
    __builtin_memcpy(kept, incoming_, block_bytes_);
    store_.checksums[request.block] = request.checksum;
    store_.written[request.block] = true;
    return Status::kDone;
  }

  Host& host_;
  std::uint32_t block_bytes_;
  Store& store_;
  DeviceCounts& counts_;
  std::uint64_t mailbox_ = 0;
  bool has_mailbox_ = false;
  std::uint64_t incoming_[kMaxBlockBytes / sizeof(std::uint64_t)] = {};
};

}  // namespace nemesis::disk
