// SPDX-License-Identifier: GPL-2.0-only
//
// The disk's driver (include/nemesis/disk.hpp), and its own examiner: it writes blocks whose
// content follows from their number and how often they have been written, reads them back, and
// compares every word.  Some of its requests are malformed, where it is told so, and it knows what
// the device must answer to each.
//
// Machine: what the driver wants of where it runs.
//   std::uint64_t clock_ns()                                      Xen system time
//   std::uint64_t frame_of(const void* page)
//   std::uint64_t in(std::uint16_t port, unsigned bytes)  1 or 4
//   void out(std::uint16_t port, std::uint32_t value)
//   void out_string(std::uint16_t port, const std::uint32_t* data, std::uint64_t count)
//   std::uint64_t read(std::uint64_t address)
//   void write(std::uint64_t address, std::uint64_t value)
//   void look()   called between two stretches of up to one block's work
#pragma once

#include <cstddef>
#include <cstdint>

#include "nemesis/device_page.hpp"
#include "nemesis/disk.hpp"

namespace nemesis::disk {

/// Pages of the driver's that the device reads and writes.
struct Buffers {
  alignas(kPageBytes) Request mailbox[kSlots];
  alignas(kPageBytes) std::uint64_t data[kPageBytes / sizeof(std::uint64_t)];
};

/// What is wrong with a malformed request.
enum class Malice : std::uint32_t {
  kNoRegister,  ///< a port of the device's that is no register
  kForeignPort,
  kNarrow,    ///< a byte of a register
  kReadOnly,  ///< a write to the identity
  kString,    ///< the doorbell, by a string instruction
  kNoMmio,
  kStraddling,  ///< eight bytes across two registers
  kSlot,
  kOperation,
  kBlock,
  kNoBytes,
  kManyBytes,
  kFrame,  ///< data in no memory of the guest's
  kChecksum,
  kMailbox,  ///< a request in no memory of the guest's
};
inline constexpr std::uint32_t kMalices = static_cast<std::uint32_t>(Malice::kMailbox) + 1;

template <typename Machine>
class Driver {
 public:
  /// malformed_every: one request in so many; 0: none.
  Driver(Machine& machine, Buffers& buffers, DevicePage& page, std::uint64_t seed,
         std::uint32_t malformed_every)
      : machine_(machine),
        buffers_(buffers),
        page_(page),
        random_(seed),
        malformed_every_(malformed_every) {
    page.format = kDeviceFormat;
  }

  /// Whether there is a device; it is told where the mailbox is.
  [[nodiscard]] bool connect() {
    connected_ = in32(kIdentityPort) == kIdentity;
    if (!connected_) return false;
    blocks_ = in32(kBlocksPort);
    block_bytes_ = in32(kBlockBytesPort);
    connected_ =
        blocks_ != 0 && blocks_ <= kBlocks && block_bytes_ != 0 && block_bytes_ <= kMaxBlockBytes;
    if (!connected_) return false;
    tell_mailbox();
    add(page_.counts.connected);
    return true;
  }

  /// Whether the last request was answered: if not, the device is to be looked for again.
  [[nodiscard]] bool connected() const { return connected_; }

  /// The next request: writes, reads by port and MMIO, and the clock, by turns.
  void step() {
    ++steps_;
    if (malformed_every_ != 0 && steps_ % malformed_every_ == 0) {
      misbehave(static_cast<Malice>(malices_++ % kMalices));
      return;
    }
    switch (turn_++ % 4) {
      case 0:
        write_one();
        break;
      case 3:
        read_clock();
        break;
      default:
        read_one();
        break;
    }
  }

  void misbehave(Malice malice) {
    add(page_.counts.started);
    const std::uint64_t begun_ns = machine_.clock_ns();
    const bool good = misbehaves(malice);
    add(page_.latency, machine_.clock_ns() - begun_ns);
    add(good ? page_.counts.refused : page_.counts.wrong);
  }

 private:
  static constexpr std::uint32_t kSlot = 5;  // any
  static constexpr std::uint64_t kNoFrame = 0xf'ffff;

  [[nodiscard]] Request& mailbox() { return buffers_.mailbox[kSlot]; }
  [[nodiscard]] std::size_t words() const { return block_bytes_ / sizeof(std::uint64_t); }

  std::uint32_t in32(std::uint16_t offset) {
    return static_cast<std::uint32_t>(
        machine_.in(static_cast<std::uint16_t>(kPorts + offset), sizeof(std::uint32_t)));
  }
  void out32(std::uint16_t offset, std::uint32_t value) {
    machine_.out(static_cast<std::uint16_t>(kPorts + offset), value);
  }
  void tell_mailbox() {
    out32(kMailboxPort, static_cast<std::uint32_t>(machine_.frame_of(buffers_.mailbox)));
  }

  std::uint64_t xorshift(std::uint64_t& state) const {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  }

  [[nodiscard]] std::uint64_t content_of(std::uint32_t block) const {
    const std::uint64_t state =
        (std::uint64_t{generations_[block]} << 32 | (block + 1)) * 0x9e37'79b9'7f4a'7c15ULL;
    return state == 0 ? 1 : state;
  }

  void fill(std::uint32_t block) {
    std::uint64_t state = content_of(block);
    for (std::size_t i = 0; i < words(); ++i) buffers_.data[i] = xorshift(state);
  }

  [[nodiscard]] bool is_as_written(std::uint32_t block) const {
    std::uint64_t state = content_of(block);
    for (std::size_t i = 0; i < words(); ++i) {
      if (buffers_.data[i] != xorshift(state)) return false;
    }
    return true;
  }

  [[nodiscard]] Request request_of(Operation operation, std::uint32_t block) const {
    return {.operation = operation,
            .block = block,
            .bytes = block_bytes_,
            .status = Status::kNone,
            .frame = machine_.frame_of(buffers_.data),
            .checksum = 0,
            .reserved = {}};
  }

  /// Rings, and times it.
  Status ask(const Request& request) {
    mailbox() = request;
    add(page_.counts.started);
    const std::uint64_t begun_ns = machine_.clock_ns();
    ring(kSlot);
    const std::uint64_t waited_ns = machine_.clock_ns() - begun_ns;
    add(page_.counts.waited_ns, waited_ns);
    if (waited_ns > page_.counts.worst_ns) {
      __atomic_store_n(&page_.counts.worst_ns, waited_ns, __ATOMIC_RELAXED);
    }
    add(page_.latency, waited_ns);
    const Status status = __atomic_load_n(&mailbox().status, __ATOMIC_ACQUIRE);
    if (status == Status::kNone) {
      add(page_.counts.unanswered);
      connected_ = false;
    }
    return status;
  }

  /// By port and by MMIO in turn.
  void ring(std::uint32_t slot) {
    if (rings_++ % 2 == 0) {
      out32(kDoorbellPort, slot);
    } else {
      machine_.write(kMmio + kDoorbellMmio, slot);
    }
  }

  void write_one() {
    const auto block = static_cast<std::uint32_t>(xorshift(random_) % blocks_);
    ++generations_[block];
    fill(block);
    machine_.look();
    Request request = request_of(Operation::kWrite, block);
    request.checksum = checksum(block, buffers_.data, words());
    machine_.look();
    const Status status = ask(request);
    if (status == Status::kDone) {
      written_ |= 1ULL << block;
      last_ = block;
      add(page_.counts.written);
      return;
    }
    // Nothing is known of it any more.
    written_ &= ~(1ULL << block);
    if (status != Status::kNone) add(page_.counts.wrong);
  }

  /// The block that was written last, or any other that was written, in turn.
  void read_one() {
    std::uint32_t block = last_;
    if (turn_ % 4 == 3) block = static_cast<std::uint32_t>(xorshift(random_) % blocks_);
    const bool known = (written_ >> block & 1) != 0;
    for (std::size_t i = 0; i < words(); ++i) buffers_.data[i] = 0;
    machine_.look();
    const Status status = ask(request_of(Operation::kRead, block));
    if (status == Status::kNone) return;
    if (status == Status::kUnwritten) {
      if (known) add(page_.counts.lost);
      written_ &= ~(1ULL << block);
      return;
    }
    if (status != Status::kDone) {
      add(page_.counts.wrong);
      return;
    }
    // Of a write of which nothing came back, both contents are right.
    if (!known) return;
    const bool sound = mailbox().checksum == checksum(block, buffers_.data, words());
    machine_.look();
    add(sound && is_as_written(block) ? page_.counts.verified : page_.counts.corrupt);
    machine_.look();
  }

  void read_clock() {
    add(page_.counts.started);
    const std::uint64_t begun_ns = machine_.clock_ns();
    const std::uint64_t clock_ns = machine_.read(kMmio + kClockMmio);
    const std::uint64_t ended_ns = machine_.clock_ns();
    add(page_.clock_latency, ended_ns - begun_ns);
    if (clock_ns == ~std::uint64_t{0}) {
      add(page_.counts.unanswered);
      connected_ = false;
    } else if (clock_ns < begun_ns || clock_ns > ended_ns) {
      add(page_.counts.clock_wrong);
    }
  }

  /// A request that the device must answer with that status, changing nothing.
  bool is_refused(Request request, Status due) {
    mailbox() = request;
    ring(kSlot);
    return __atomic_load_n(&mailbox().status, __ATOMIC_ACQUIRE) == due;
  }

  /// A ring of the doorbell that must leave the request alone.
  bool is_ignored(std::uint32_t slot) {
    mailbox() = request_of(Operation::kRead, 0);
    ring(slot);
    return __atomic_load_n(&mailbox().status, __ATOMIC_ACQUIRE) == Status::kNone;
  }

  bool misbehaves(Malice malice) {
    constexpr std::uint32_t kOnes32 = ~std::uint32_t{0};
    Request request = request_of(Operation::kRead, 0);
    switch (malice) {
      case Malice::kNoRegister:
        return in32(0x18) == kOnes32;
      case Malice::kForeignPort:
        return in32(kPortBytes + 0x10) == kOnes32;
      case Malice::kNarrow:
        return machine_.in(kPorts, 1) == 0xff;
      case Malice::kReadOnly:
        out32(kIdentityPort, 0);
        return in32(kIdentityPort) == kIdentity;
      case Malice::kString: {
        const std::uint32_t slots[4] = {kSlot, kSlot, kSlot, kSlot};
        mailbox() = request;
        machine_.out_string(kPorts + kDoorbellPort, slots, 4);
        const Status status = __atomic_load_n(&mailbox().status, __ATOMIC_ACQUIRE);
        // Xen may take such an instruction apart; each part is then a request like any other.
        return status == Status::kNone || status == Status::kDone || status == Status::kUnwritten;
      }
      case Malice::kNoMmio:
        return machine_.read(kMmio + 0x800) == ~std::uint64_t{0};
      case Malice::kStraddling:
        return machine_.read(kMmio + 0x04) == ~std::uint64_t{0};
      case Malice::kSlot:
        return is_ignored(kSlots) && is_ignored(kOnes32);
      case Malice::kOperation:
        request.operation = static_cast<Operation>(77);
        return is_refused(request, Status::kBadOperation);
      case Malice::kBlock:
        request.block = blocks_;
        return is_refused(request, Status::kBadBlock);
      case Malice::kNoBytes:
        request.bytes = 0;
        return is_refused(request, Status::kBadSize);
      case Malice::kManyBytes:
        request.bytes = kOnes32;
        return is_refused(request, Status::kBadSize);
      case Malice::kFrame:
        request.frame = kNoFrame;
        return is_refused(request, Status::kBadFrame);
      case Malice::kChecksum:
        // Were it carried out, the next look at that block would find it corrupt.
        request = request_of(Operation::kWrite, last_);
        request.checksum = checksum(last_, buffers_.data, words()) ^ 1;
        return is_refused(request, Status::kBadChecksum);
      case Malice::kMailbox: {
        out32(kMailboxPort, static_cast<std::uint32_t>(kNoFrame));
        const bool ignored = is_ignored(kSlot);
        tell_mailbox();
        return ignored;
      }
    }
    return false;
  }

  Machine& machine_;
  Buffers& buffers_;
  DevicePage& page_;
  std::uint64_t random_;
  std::uint32_t malformed_every_;
  std::uint64_t steps_ = 0;
  std::uint64_t turn_ = 0;
  std::uint32_t malices_ = 0;
  std::uint32_t rings_ = 0;
  std::uint32_t blocks_ = 0;
  std::uint32_t block_bytes_ = 0;
  std::uint32_t last_ = 0;
  std::uint64_t written_ = 0;  // a bit a block
  std::uint32_t generations_[kBlocks] = {};
  bool connected_ = false;
  static_assert(kBlocks <= 64);
};

}  // namespace nemesis::disk
