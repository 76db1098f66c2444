// SPDX-License-Identifier: GPL-2.0-only
//
// The disk: what a guest's driver and a stub domain's device model have agreed upon.
//
// Registers are 32 bits wide by port and 64 bits by MMIO; an access of any other width, across two
// of them, or to none, reads as all ones and writes nothing.
//
//   port +0x00 r  identity     kIdentity
//        +0x04 r  blocks       how many there are
//        +0x08 r  block bytes  their size, a multiple of kUnitBytes
//        +0x0c w  mailbox      guest frame of a page of kSlots requests
//        +0x10 w  doorbell     slot of a request
//   MMIO +0x00 r  clock        Xen system time, ns
//        +0x08 w  doorbell     slot of a request
//
// The doorbell is synchronous: when the access that rang it is over, the request has a status.
// There is none where no page is the mailbox, or no slot has that number: the device has nowhere to
// put it.
//
// Data moves between a block and the start of one guest frame.  A checksum goes with it: the device
// refuses to write a block that does not have the one that the request says, keeps it beside the
// block, and hands it out when the block is read.  A refused request changes nothing.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nemesis::disk {

inline constexpr std::uint16_t kPorts = 0x5e00;
inline constexpr std::uint16_t kPortBytes = 0x20;
/// Above the memory that a guest with a disk may have, below the 1 GiB that it can address.
inline constexpr std::uint64_t kMmio = 0x2000'0000;
inline constexpr std::uint64_t kMmioBytes = 0x1000;

inline constexpr std::uint16_t kIdentityPort = 0x00;
inline constexpr std::uint16_t kBlocksPort = 0x04;
inline constexpr std::uint16_t kBlockBytesPort = 0x08;
inline constexpr std::uint16_t kMailboxPort = 0x0c;
inline constexpr std::uint16_t kDoorbellPort = 0x10;
inline constexpr std::uint64_t kClockMmio = 0x00;
inline constexpr std::uint64_t kDoorbellMmio = 0x08;

inline constexpr std::uint32_t kIdentity = 0x6b73'6964;  // "disk", little endian
inline constexpr std::uint32_t kBlocks = 64;
inline constexpr std::uint32_t kUnitBytes = 512;
inline constexpr std::uint32_t kMaxBlockBytes = 4096;
inline constexpr std::size_t kPageBytes = 4096;

enum class Operation : std::uint32_t { kRead = 1, kWrite = 2 };

enum class Status : std::uint32_t {
  kNone = 0,  ///< the driver's, before it rings
  kDone,
  kUnwritten,  ///< read: nobody has written that block since the device began
  kBadOperation,
  kBadBlock,
  kBadSize,   ///< not a whole block
  kBadFrame,  ///< not the guest's memory
  kBadChecksum,
};

struct Request {
  Operation operation;
  std::uint32_t block;
  std::uint32_t bytes;
  Status status;
  std::uint64_t frame;
  std::uint64_t checksum;  ///< write: the driver's; read: the device's
  std::uint64_t reserved[4];
};

static_assert(sizeof(Request) == 64);
inline constexpr std::uint32_t kSlots = kPageBytes / sizeof(Request);

/// Of a block's content and its number, so that a block in another's place shows.  Any change of
/// one word changes it: each step is a bijection of what came before.
[[nodiscard]] constexpr std::uint64_t checksum(std::uint32_t block, const std::uint64_t* words,
                                               std::size_t count) {
  std::uint64_t sum = 0x9e37'79b9'7f4a'7c15ULL + block;
  for (std::size_t i = 0; i < count; ++i) {
    sum = ((sum << 7) | (sum >> 57)) ^ words[i];
    sum *= 0xd6e8'feb8'6659'fd93ULL;  // odd
  }
  return sum;
}

}  // namespace nemesis::disk
