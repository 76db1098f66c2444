// SPDX-License-Identifier: GPL-2.0-only
//
// The second page of a guest's image: what a device's driver, or its device model, has seen.
// Behind the report page, mapped by the controller in the same way.
//
// One vCPU alone writes it.  Each word is whole at any instant, and none needs another to mean
// something: requests answered are not counted, they are the sum of the histogram.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace nemesis {

inline constexpr std::uint64_t kDevicePfn = 0x101;
inline constexpr std::uint64_t kDeviceFormat = 1;

// Latencies, in buckets an octave of which has kBucketsPerOctave: a bucket is at most 1/16 wide.
// Below kBucketUnitNs × kBucketsPerOctave they are kBucketUnitNs wide each.
inline constexpr unsigned kBucketUnitShift = 10;
inline constexpr std::size_t kBucketsPerOctave = 16;
inline constexpr std::size_t kLatencyBuckets = 22 * kBucketsPerOctave;  // to 2^35 ns

[[nodiscard]] constexpr std::size_t bucket_of(std::uint64_t ns) {
  const std::uint64_t units = ns >> kBucketUnitShift;
  if (units < kBucketsPerOctave) return units;
  const auto octave = static_cast<unsigned>(std::bit_width(units)) - 5U;
  const std::size_t bucket = (octave + 1) * kBucketsPerOctave + ((units >> octave) & 15);
  return bucket < kLatencyBuckets ? bucket : kLatencyBuckets - 1;
}

/// The least latency that is above the bucket's.  Of the last one, which has all that are longer
/// too, it is not.
[[nodiscard]] constexpr std::uint64_t bucket_end_ns(std::size_t bucket) {
  const std::size_t next = bucket + 1;
  if (next <= kBucketsPerOctave) return static_cast<std::uint64_t>(next) << kBucketUnitShift;
  const std::size_t octave = next / kBucketsPerOctave - 1;
  return (kBucketsPerOctave + next % kBucketsPerOctave) << (octave + kBucketUnitShift);
}

struct DeviceCounts {
  // The driver's.
  std::uint64_t started;      ///< requests begun; one more than are answered while one is in flight
  std::uint64_t written;      ///< blocks written
  std::uint64_t verified;     ///< blocks read back, and found to be what was written
  std::uint64_t corrupt;      ///< blocks read back that were not
  std::uint64_t lost;         ///< blocks written once, of which the device knows nothing
  std::uint64_t refused;      ///< malformed requests answered as they should be
  std::uint64_t wrong;        ///< requests answered otherwise than they should be
  std::uint64_t unanswered;   ///< requests that came back without a status
  std::uint64_t connected;    ///< times the device was found
  std::uint64_t clock_wrong;  ///< readings of its clock from outside the time that they took
  std::uint64_t waited_ns;    ///< latencies, in sum
  std::uint64_t worst_ns;
  // The device model's.
  std::uint64_t accesses;  ///< I/O requests of Xen's that were answered
  std::uint64_t served;    ///< requests that got a status
  std::uint64_t rejected;  ///< accesses and requests refused
};

struct DevicePage {
  std::uint64_t format;  ///< 0: the guest has no business with a device
  DeviceCounts counts;
  std::uint32_t latency[kLatencyBuckets];        ///< of requests for blocks
  std::uint32_t clock_latency[kLatencyBuckets];  ///< of readings of the clock
  std::uint8_t reserved[1152];
};

static_assert(sizeof(DeviceCounts) == 120);
static_assert(sizeof(DevicePage) == 4096);

/// By the writer alone: one store, so that a reader sees it whole.
inline void add(std::uint64_t& count, std::uint64_t more = 1) {
  __atomic_store_n(&count, count + more, __ATOMIC_RELAXED);
}

inline void add(std::uint32_t (&histogram)[kLatencyBuckets], std::uint64_t ns) {
  std::uint32_t& bucket = histogram[bucket_of(ns)];
  __atomic_store_n(&bucket, bucket + 1, __ATOMIC_RELAXED);
}

}  // namespace nemesis
