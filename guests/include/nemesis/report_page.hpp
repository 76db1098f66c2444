// SPDX-License-Identifier: GPL-2.0-only
//
// The page through which a guest and the controller talk: parameters in, the guest's own view of
// its timeslices out.
//
// It is the first page of the guest's image, at guest pfn kReportPfn, so that the controller finds
// it without asking the guest.  The image carries magic and format; the controller refuses an image
// that does not, writes the parameters before the guest first runs, and afterwards maps the page
// read-only.
//
// One slot per vCPU, written by that vCPU alone.  A slot holds two halves and a sequence word: half
// `sequence & 1` is published, the writer fills the other one and then bumps the word.  A vCPU that
// loses its pCPU in the middle of a write therefore leaves a whole, slightly older report behind;
// the reader copies the published half and starts again when the word moved meanwhile.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nemesis {

inline constexpr std::uint64_t kReportPfn = 0x100;
inline constexpr std::size_t kReportPageBytes = 4096;
inline constexpr std::uint32_t kMaxGuestVcpus = 15;

inline constexpr std::uint32_t kReportFormat = 4;
inline constexpr std::uint64_t kReportMagic =
    0x0073'6973'656d'656eULL;  // "nemesis\0", little endian

/// Why a guest shut itself down as crashed.  Zero until then.
enum class GuestFailure : std::uint32_t {
  kNone = 0,
  kParameters,  ///< detail: the offending value
  kSharedInfo,  ///< detail: the hypercall's result
  kRunstate,    ///< detail: the hypercall's result
  kVcpuStart,   ///< detail: the hypercall's result
  kPeer,        ///< detail: the hypercall's result
  kSleep,       ///< detail: the hypercall's result
  kPermitted,   ///< detail: the hypercall's result, which should have been EPERM
  kTarget,      ///< a stub domain's; detail: the hypercall's result
  kStore,       ///< xenstore's; detail: the type of its answer, or a size out of range
};

struct GuestParameters {
  std::uint64_t
      gap_threshold_ns;  ///< a longer step of the guest's clock between two chunks is a preemption
  std::uint64_t chunk_iterations;  ///< rounds of xorshift between two looks at the clock
  std::uint64_t seed;              ///< not zero
  std::uint32_t vcpus;             ///< vCPUs to bring up, 1 … kMaxGuestVcpus
  std::uint32_t peer_port;         ///< event channel to the peer: ours if `peer_is_remote` is 0
  std::uint32_t peer_domain;       ///< the domain whose port that is, to be bound to
  std::uint32_t peer_is_remote;
  // What they mean is the workload's.
  std::uint64_t period_ns;
  std::uint64_t run_ns;
  std::uint64_t phase_ns;
  // Of a device: its model's, and its driver's.
  std::uint64_t cost_ns;          ///< CPU time that a request costs the model
  std::uint32_t block_bytes;      ///< of the model's disk
  std::uint32_t malformed_every;  ///< the driver's: one request in so many is; 0: none
  std::uint32_t target_domain;    ///< a stub domain's
  std::uint32_t target_vcpus;     ///< 0: it is no stub domain
};

/// What one vCPU says of itself.  All times in ns of its own clock (pvclock), which no accounting
/// of the scheduler's enters; the runstate times are the hypervisor's, as seen from inside, brought
/// forward to clock_ns.
struct GuestReport {
  std::uint64_t work;            ///< chunks finished
  std::uint64_t clock_ns;        ///< the guest's clock (Xen system time) when this was written
  std::uint64_t ran_ns;          ///< ran_ns + gap_ns + idle_ns = clock_ns − first clock_ns
  std::uint64_t slices;          ///< timeslices begun: preemptions seen, plus one
  std::uint64_t gap_ns;          ///< time in gaps: it wanted to run, and did not
  std::uint64_t longest_gap_ns;  ///< longest single gap
  std::uint64_t runstate_ns[4];  ///< running, runnable, blocked, offline
  std::uint64_t idle_ns;         ///< time in which it did not want to run
  std::uint64_t wakes;           ///< times it woke; of a pair's first side: round trips
  std::uint64_t late_ns;         ///< from when it should have woken, or sent, in sum
  std::uint64_t longest_late_ns;
};

inline constexpr std::size_t kReportWords = sizeof(GuestReport) / sizeof(std::uint64_t);
inline constexpr std::size_t kHalfWords = 15;

struct ReportSlot {
  std::uint64_t sequence;  ///< reports published so far
  std::uint64_t reserved;
  std::uint64_t halves[2][kHalfWords];
};

struct ReportHeader {
  std::uint64_t magic;
  std::uint32_t format;
  GuestFailure failure;
  std::uint64_t failure_detail;
  GuestParameters parameters;
  std::uint32_t vcpus_wanted;  ///< the controller's, at any time: how many are to be up; 0: all
  std::uint8_t reserved[140];
};

struct ReportPage {
  ReportHeader header;
  ReportSlot slots[kMaxGuestVcpus];
};

static_assert(sizeof(GuestParameters) == 88);
static_assert(sizeof(GuestReport) == 112 && kReportWords <= kHalfWords);
static_assert(sizeof(ReportSlot) == 256);
static_assert(sizeof(ReportHeader) == 256);
static_assert(offsetof(ReportHeader, failure) == 12);
static_assert(offsetof(ReportHeader, parameters) == 24);
static_assert(offsetof(ReportHeader, vcpus_wanted) == 112);
static_assert(offsetof(ReportPage, slots) == 256);
static_assert(sizeof(ReportPage) == kReportPageBytes);

/// Writer's side; only the slot's own vCPU may call it.
inline void publish(ReportSlot& slot, const GuestReport& report) {
  std::uint64_t words[kReportWords];
  __builtin_memcpy(words, &report, sizeof(words));

  const std::uint64_t next = __atomic_load_n(&slot.sequence, __ATOMIC_RELAXED) + 1;
  std::uint64_t* half = slot.halves[next & 1];
  __atomic_thread_fence(
      __ATOMIC_RELEASE);  // the previous bump before the words that overwrite its predecessor
  for (std::size_t i = 0; i < kReportWords; ++i) {
    __atomic_store_n(&half[i], words[i], __ATOMIC_RELAXED);
  }
  __atomic_store_n(&slot.sequence, next, __ATOMIC_RELEASE);
}

/// Reader's side.  False when the sequence moved during each of `attempts` copies; `report` is then
/// not touched. A slot never published reads as zeros.
[[nodiscard]] inline bool read_report(const ReportSlot& slot, GuestReport& report,
                                      unsigned attempts = 1000) {
  for (unsigned attempt = 0; attempt < attempts; ++attempt) {
    const std::uint64_t sequence = __atomic_load_n(&slot.sequence, __ATOMIC_ACQUIRE);
    const std::uint64_t* half = slot.halves[sequence & 1];
    std::uint64_t words[kReportWords];
    for (std::size_t i = 0; i < kReportWords; ++i)
      words[i] = __atomic_load_n(&half[i], __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (__atomic_load_n(&slot.sequence, __ATOMIC_RELAXED) == sequence) {
      __builtin_memcpy(&report, words, sizeof(words));
      return true;
    }
  }
  return false;
}

}  // namespace nemesis
