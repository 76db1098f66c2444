// SPDX-License-Identifier: GPL-2.0-only
//
// The disk's driver against its device model, in one process: what they agree upon, what the device
// refuses, and that the driver notices whatever a device could do wrong.
#include "nemesis/disk.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "disk_device.hpp"
#include "disk_driver.hpp"

namespace nemesis::disk {
namespace {

constexpr std::uint64_t kMailboxFrame = 0x200;
constexpr std::uint64_t kDataFrame = 0x201;
constexpr std::uint32_t kBytes = 1024;

/// The guest's memory, and the clock.
class Host {
 public:
  std::map<std::uint64_t, void*> memory;
  std::uint64_t now_ns = 1000;
  unsigned worked = 0;
  std::function<void()> on_look = [] {};

  std::uint8_t* map(std::uint64_t frame) {
    const auto found = memory.find(frame);
    return found == memory.end() ? nullptr : static_cast<std::uint8_t*>(found->second);
  }
  std::uint64_t clock_ns() { return now_ns += 10; }
  void work() { ++worked; }
  void look() { on_look(); }
};

class Disk : public testing::Test {
 protected:
  std::unique_ptr<Store> store = std::make_unique<Store>();
  std::unique_ptr<Buffers> buffers = std::make_unique<Buffers>();
  DeviceCounts counts{};
  Host host;
  Device<Host> device{host, kBytes, *store, counts};

  void SetUp() override {
    host.memory = {{kMailboxFrame, buffers->mailbox}, {kDataFrame, buffers->data}};
  }

  std::uint64_t port(std::uint64_t offset, bool write, std::uint64_t data = 0,
                     std::uint32_t bytes = 4, bool plain = true) {
    return device.access({true, write, plain, kPorts + offset, bytes, data});
  }
  std::uint64_t mmio(std::uint64_t offset, bool write, std::uint64_t data = 0,
                     std::uint32_t bytes = 8) {
    return device.access({false, write, true, kMmio + offset, bytes, data});
  }

  Status ask(Request request, bool by_port = true) {
    buffers->mailbox[3] = request;
    if (by_port) {
      port(kDoorbellPort, true, 3);
    } else {
      mmio(kDoorbellMmio, true, 3);
    }
    return buffers->mailbox[3].status;
  }

  [[nodiscard]] Request good_write(std::uint32_t block) const {
    return {Operation::kWrite,
            block,
            kBytes,
            Status::kNone,
            kDataFrame,
            checksum(block, buffers->data, kBytes / 8),
            {}};
  }
  [[nodiscard]] static Request good_read(std::uint32_t block) {
    return {Operation::kRead, block, kBytes, Status::kNone, kDataFrame, 0, {}};
  }
  void fill(std::uint64_t value) {
    for (std::uint64_t& word : buffers->data) word = value++;
  }
};

TEST(Checksum, AnyChangeOfAWordOrOfThePlaceShows) {
  std::vector<std::uint64_t> words(64);
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = i * 3;
  const std::uint64_t sum = checksum(7, words.data(), words.size());
  EXPECT_NE(checksum(8, words.data(), words.size()), sum);
  EXPECT_NE(checksum(7, words.data(), words.size() - 1), sum);
  for (std::uint64_t& word : words) {
    for (unsigned bit = 0; bit < 64; ++bit) {
      word ^= 1ULL << bit;
      EXPECT_NE(checksum(7, words.data(), words.size()), sum);
      word ^= 1ULL << bit;
    }
  }
  std::swap(words[1], words[2]);
  EXPECT_NE(checksum(7, words.data(), words.size()), sum);
}

TEST_F(Disk, RegistersSayWhatItIs) {
  EXPECT_EQ(port(kIdentityPort, false), kIdentity);
  EXPECT_EQ(port(kBlocksPort, false), kBlocks);
  EXPECT_EQ(port(kBlockBytesPort, false), kBytes);
  const std::uint64_t before = host.now_ns;
  EXPECT_GT(mmio(kClockMmio, false), before);
  EXPECT_EQ(counts.accesses, 4U);
  EXPECT_EQ(counts.rejected, 0U);
  EXPECT_EQ(host.worked, 0U);
}

TEST_F(Disk, WritesAndReadsBack) {
  port(kMailboxPort, true, kMailboxFrame);
  EXPECT_EQ(ask(good_read(5)), Status::kUnwritten);
  fill(100);
  EXPECT_EQ(ask(good_write(5)), Status::kDone);
  fill(0);
  EXPECT_EQ(ask(good_read(5), false), Status::kDone);
  EXPECT_EQ(buffers->data[0], 100U);
  EXPECT_EQ(buffers->data[kBytes / 8 - 1], 100U + kBytes / 8 - 1);
  EXPECT_EQ(buffers->data[kBytes / 8], kBytes / 8) << "beyond the block";
  EXPECT_EQ(buffers->mailbox[3].checksum, checksum(5, buffers->data, kBytes / 8));
  EXPECT_EQ(ask(good_read(6)), Status::kUnwritten);
  EXPECT_EQ(counts.served, 4U);
  EXPECT_EQ(counts.rejected, 0U);
  EXPECT_EQ(host.worked, 4U);
}

TEST_F(Disk, ARefusedRequestChangesNothing) {
  port(kMailboxPort, true, kMailboxFrame);
  fill(1);
  ASSERT_EQ(ask(good_write(0)), Status::kDone);
  fill(77);
  const auto change = [&](auto&& what) {
    Request request = good_write(0);
    what(request);
    return request;
  };
  const std::vector<std::pair<Request, Status>> bad = {
      {change([](Request& r) { r.operation = static_cast<Operation>(0); }), Status::kBadOperation},
      {change([](Request& r) { r.operation = static_cast<Operation>(3); }), Status::kBadOperation},
      {change([](Request& r) { r.block = kBlocks; }), Status::kBadBlock},
      {change([](Request& r) { r.block = ~0U; }), Status::kBadBlock},
      {change([](Request& r) { r.bytes = 0; }), Status::kBadSize},
      {change([](Request& r) { r.bytes = kBytes - 1; }), Status::kBadSize},
      {change([](Request& r) { r.bytes = kBytes * 2; }), Status::kBadSize},
      {change([](Request& r) { r.frame = 0xdead; }), Status::kBadFrame},
      {change([](Request& r) { r.frame = ~0ULL; }), Status::kBadFrame},
      {change([](Request& r) { r.checksum ^= 1; }), Status::kBadChecksum},
  };
  for (const auto& [request, status] : bad) EXPECT_EQ(ask(request), status);
  EXPECT_EQ(counts.rejected, bad.size());
  ASSERT_EQ(ask(good_read(0)), Status::kDone);
  EXPECT_EQ(buffers->data[0], 1U);
}

TEST_F(Disk, AccessesToNoRegisterReadAsOnesAndDoNothing) {
  const std::vector<Access> bad = {
      {true, false, true, kPorts + 0x14, 4, 0},
      {true, false, true, kPorts + 0x1c, 4, 0},
      {true, false, true, kPorts + 1, 4, 0},
      {true, false, true, kPorts, 1, 0},
      {true, false, true, kPorts, 2, 0},
      {true, false, false, kPorts, 4, 0},
      {true, true, true, kPorts + kIdentityPort, 4, 5},
      {true, true, true, kPorts + kBlocksPort, 4, 5},
      {true, true, true, kPorts + kBlockBytesPort, 4, 5},
      {true, false, true, kPorts + kMailboxPort, 4, 0},
      {true, false, true, kPorts + kDoorbellPort, 4, 0},
      {true, false, true, kPorts - 4U, 4, 0},
      {false, false, true, kMmio + 0x10, 8, 0},
      {false, false, true, kMmio + 4, 8, 0},
      {false, false, true, kMmio, 4, 0},
      {false, true, true, kMmio + kClockMmio, 8, 5},
      {false, false, true, kMmio + kDoorbellMmio, 8, 0},
      {false, false, true, 0, 8, 0},
  };
  for (const Access& access : bad) {
    EXPECT_EQ(device.access(access), kAllOnes) << access.port << " " << access.address;
  }
  EXPECT_EQ(counts.rejected, bad.size());
  EXPECT_EQ(counts.accesses, bad.size());
  EXPECT_EQ(port(kBlockBytesPort, false), kBytes);
}

TEST_F(Disk, TheDoorbellNeedsAMailboxAndASlot) {
  buffers->mailbox[3] = good_read(0);
  EXPECT_EQ(port(kDoorbellPort, true, 3), kAllOnes) << "no mailbox was told";
  port(kMailboxPort, true, 0xdead);
  EXPECT_EQ(port(kDoorbellPort, true, 3), kAllOnes);
  port(kMailboxPort, true, kMailboxFrame);
  EXPECT_EQ(port(kDoorbellPort, true, kSlots), kAllOnes);
  EXPECT_EQ(mmio(kDoorbellMmio, true, 1ULL << 32), kAllOnes);
  EXPECT_EQ(buffers->mailbox[3].status, Status::kNone);
  EXPECT_EQ(counts.served, 0U);
  EXPECT_EQ(counts.rejected, 4U);
  EXPECT_EQ(host.worked, 4U) << "a storm costs the device model what requests cost";
}

TEST_F(Disk, AGuestThatChangesADataPageMeanwhileIsNotWritten) {
  port(kMailboxPort, true, kMailboxFrame);
  fill(1);
  host.on_look = [&] { buffers->data[0] = 99; };
  EXPECT_EQ(ask(good_write(0)), Status::kDone);
  host.on_look = [] {};
  ASSERT_EQ(ask(good_read(0)), Status::kDone);
  EXPECT_EQ(buffers->data[0], 1U) << "what was checked is what is kept";
}

/// Ports and MMIO of a machine that has this device alone.
class Machine {
 public:
  explicit Machine(Host& host, Device<Host>& device) : host_(host), device_(&device) {}

  std::function<void(std::uint64_t&)> on_read = [](std::uint64_t&) {};
  std::function<void()> on_write = [] {};
  void plug(Device<Host>* device) { device_ = device; }

  std::uint64_t clock_ns() { return host_.now_ns += 100; }
  std::uint64_t frame_of(const void* page) const {
    for (const auto& [frame, memory] : host_.memory) {
      if (memory == page) return frame;
    }
    return 0;
  }
  void look() {}
  std::uint64_t in(std::uint16_t port, unsigned bytes) {
    const bool ours = port >= kPorts && port < kPorts + kPortBytes;
    const std::uint64_t data = ours && device_ != nullptr
                                   ? device_->access({true, false, true, port, bytes, 0})
                                   : kAllOnes;
    return bytes == 1 ? data & 0xff : data & 0xffff'ffff;
  }
  void out(std::uint16_t port, std::uint32_t value) {
    if (device_ != nullptr) device_->access({true, true, true, port, 4, value});
    on_write();
  }
  void out_string(std::uint16_t port, const std::uint32_t* data, std::uint64_t /*count*/) {
    device_->access({true, true, false, port, 4, *data});
  }
  std::uint64_t read(std::uint64_t address) {
    std::uint64_t data =
        device_ == nullptr ? kAllOnes : device_->access({false, false, true, address, 8, 0});
    on_read(data);
    return data;
  }
  void write(std::uint64_t address, std::uint64_t value) {
    if (device_ != nullptr) device_->access({false, true, true, address, 8, value});
    on_write();
  }

 private:
  Host& host_;
  Device<Host>* device_;
};

class Driven : public Disk {
 protected:
  DevicePage page{};
  Machine machine{host, device};

  Driver<Machine> driver(std::uint32_t malformed_every = 0) {
    return {machine, *buffers, page, 12345, malformed_every};
  }
  void steps(Driver<Machine>& driver, unsigned count) {
    for (unsigned i = 0; i < count; ++i) {
      while (!driver.connected()) ASSERT_TRUE(driver.connect());
      driver.step();
    }
  }
  [[nodiscard]] std::uint64_t answered() const {
    std::uint64_t sum = 0;
    for (const std::uint32_t count : page.latency) sum += count;
    for (const std::uint32_t count : page.clock_latency) sum += count;
    return sum;
  }
};

TEST_F(Driven, AGoodDeviceIsFoundGood) {
  auto one = driver();
  steps(one, 400);
  EXPECT_EQ(page.counts.started, 400U);
  EXPECT_EQ(answered(), 400U);
  EXPECT_EQ(page.counts.written, 100U);
  EXPECT_GT(page.counts.verified, 120U);
  EXPECT_EQ(page.counts.corrupt + page.counts.lost + page.counts.wrong, 0U);
  EXPECT_EQ(page.counts.unanswered + page.counts.clock_wrong + page.counts.refused, 0U);
  EXPECT_EQ(page.counts.connected, 1U);
  EXPECT_EQ(counts.served, 300U);
}

TEST_F(Driven, MaliceIsRefusedAndDoesNoHarm) {
  auto one = driver(2);
  steps(one, 40 * kMalices);
  EXPECT_EQ(page.counts.refused, 20U * kMalices);
  EXPECT_EQ(page.counts.wrong, 0U);
  EXPECT_EQ(page.counts.corrupt + page.counts.lost + page.counts.unanswered, 0U);
  EXPECT_GT(page.counts.verified, 0U);
  EXPECT_GT(counts.rejected, 15U * kMalices);
}

TEST_F(Driven, OneFlippedBitIsCorrupt) {
  auto one = driver();
  steps(one, 40);
  ASSERT_EQ(page.counts.corrupt, 0U);
  for (std::size_t i = 0; i < kBlocks; ++i) store->words[i][kBytes / 8 - 1] ^= 1ULL << 63;
  steps(one, 4);
  EXPECT_GT(page.counts.corrupt, 0U);
}

TEST_F(Driven, AnOlderBlockWithItsOwnChecksumIsCorrupt) {
  auto one = driver();
  steps(one, 400);
  auto older = std::make_unique<Store>(*store);
  steps(one, 400);
  ASSERT_EQ(page.counts.corrupt, 0U);
  *store = *older;
  steps(one, 40);
  EXPECT_GT(page.counts.corrupt, 0U);
}

TEST_F(Driven, AnotherBlockInItsPlaceIsCorrupt) {
  auto one = driver();
  steps(one, 400);
  std::memcpy(store->words[1], store->words[0], sizeof(store->words[0]));
  for (std::size_t i = 2; i < kBlocks; ++i) {
    std::memcpy(store->words[i], store->words[0], sizeof(store->words[0]));
    store->checksums[i] = store->checksums[0];
  }
  steps(one, 40);
  EXPECT_GT(page.counts.corrupt, 0U);
}

TEST_F(Driven, AForgottenBlockIsLost) {
  auto one = driver();
  steps(one, 400);
  std::memset(store->written, 0, sizeof(store->written));
  steps(one, 2);
  EXPECT_EQ(page.counts.corrupt, 0U);
  steps(one, 40);
  EXPECT_GT(page.counts.lost, 0U);
  EXPECT_EQ(page.counts.corrupt, 0U);
}

TEST_F(Driven, AnAnswerThatIsNoneSendsItLookingForTheDevice) {
  auto one = driver();
  steps(one, 4);
  machine.plug(nullptr);
  one.step();
  EXPECT_FALSE(one.connected());
  EXPECT_EQ(page.counts.unanswered, 1U);
  EXPECT_FALSE(one.connect());
  Device<Host> other(host, kBytes, *store, counts);
  machine.plug(&other);
  steps(one, 40);
  EXPECT_EQ(page.counts.connected, 2U);
  EXPECT_EQ(page.counts.wrong + page.counts.corrupt, 0U);
}

TEST_F(Driven, AWrongStatusIsWrong) {
  auto one = driver();
  steps(one, 4);
  machine.on_write = [&] { buffers->mailbox[5].status = Status::kBadBlock; };
  one.step();
  EXPECT_EQ(page.counts.wrong, 1U);
}

TEST_F(Driven, MaliceThatIsCarriedOutIsWrong) {
  auto one = driver();
  steps(one, 4);
  machine.on_write = [&] { buffers->mailbox[5].status = Status::kDone; };
  for (const Malice malice :
       {Malice::kSlot, Malice::kOperation, Malice::kBlock, Malice::kNoBytes, Malice::kManyBytes,
        Malice::kFrame, Malice::kChecksum, Malice::kMailbox}) {
    const std::uint64_t before = page.counts.wrong;
    one.misbehave(malice);
    EXPECT_EQ(page.counts.wrong, before + 1) << static_cast<unsigned>(malice);
  }
  EXPECT_EQ(page.counts.refused, 0U);
}

TEST_F(Driven, AClockThatIsNotNowIsWrong) {
  auto one = driver();
  for (const std::int64_t off_ns : {-1000, 1000}) {
    const std::uint64_t before = page.counts.clock_wrong;
    machine.on_read = [off_ns](std::uint64_t& data) { data += static_cast<std::uint64_t>(off_ns); };
    steps(one, 4);
    EXPECT_EQ(page.counts.clock_wrong, before + 1);
  }
}

TEST(Latency, BucketsHaveNoHolesAndAreNarrow) {
  std::size_t last = 0;
  for (std::uint64_t ns = 0; ns < 40'000'000; ns += 37) {
    const std::size_t bucket = bucket_of(ns);
    ASSERT_TRUE(bucket == last || bucket == last + 1) << ns;
    last = bucket;
    ASSERT_LT(ns, bucket_end_ns(bucket));
    ASSERT_LE(bucket_end_ns(bucket), ns + ns / 16 + 1025);
  }
  EXPECT_EQ(bucket_of(0), 0U);
  EXPECT_EQ(bucket_of(1023), 0U);
  EXPECT_EQ(bucket_of(1024), 1U);
  EXPECT_EQ(bucket_of((1ULL << 35) - 1), kLatencyBuckets - 1);
  EXPECT_EQ(bucket_end_ns(kLatencyBuckets - 1), 1ULL << 35);
  EXPECT_EQ(bucket_of(~0ULL), kLatencyBuckets - 1);
}

}  // namespace
}  // namespace nemesis::disk
