// SPDX-License-Identifier: GPL-2.0-only
//
// A vCPU that works, sleeps, and reports: what workloads are made of.
#pragma once

#include <cstdint>

#include "platform.hpp"
#include "slice_observer.hpp"

namespace nemesis {

class Worker {
 public:
  Worker(std::uint32_t vcpu, const GuestParameters& parameters, ReportSlot& slot)
      : vcpu_(vcpu),
        parameters_(parameters),
        slot_(slot),
        state_(parameters.seed + vcpu),
        observer_(parameters.gap_threshold_ns, platform::clock_ns(vcpu)) {}

  /// The clock, as last looked at.
  [[nodiscard]] std::uint64_t now_ns() const { return observer_.report().clock_ns; }

  /// One chunk of work.
  void work() {
    for (std::uint64_t rounds = parameters_.chunk_iterations; rounds != 0; --rounds) xorshift();
    observer_.chunk_done(platform::clock_ns(vcpu_));
    report();
    come_and_go();
  }

  /// Chunks, until it has run for so long.
  void work_for(std::uint64_t ns) {
    const std::uint64_t end_ns = observer_.report().ran_ns + ns;
    while (observer_.report().ran_ns < end_ns) work();
  }

  /// Chunks, until the clock reads so much.
  void work_until(std::uint64_t end_ns) {
    while (now_ns() < end_ns) work();
  }

  void sleep_until(std::uint64_t deadline_ns) {
    if (deadline_ns <= now_ns()) return;
    platform::sleep_until(deadline_ns);
    observer_.woke(deadline_ns, platform::clock_ns(vcpu_));
    report();
  }

  /// Waits for an event, for as long as it takes.
  void wait_for(std::uint32_t port) {
    platform::wait_for(port);
    observer_.idled(platform::clock_ns(vcpu_));
    report();
  }

  /// Sends an event, and waits for the answer; the time it took is reported as late.
  void ask(std::uint32_t port) {
    const std::uint64_t asked_ns = now_ns();
    platform::notify(port);
    wait_for(port);
    observer_.answered(now_ns() - asked_ns);
    report();
  }

  /// Lets others go first.  The time away is a gap: it still wants to run.
  void yield() {
    platform::yield();
    observer_.chunk_done(platform::clock_ns(vcpu_));
  }

  /// Goes down, until it is brought up.
  void down() {
    platform::vcpu_down(vcpu_);
    observer_.idled(platform::clock_ns(vcpu_));
    report();
  }

  /// From ns/2 to 3 ns/2, each as likely.
  [[nodiscard]] std::uint64_t about(std::uint64_t ns) {
    return ns == 0 ? 0 : ns / 2 + xorshift() % ns;
  }

 private:
  /// Marsaglia's xorshift64.  The empty asm keeps each round, without a store.
  std::uint64_t xorshift() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    asm volatile("" : "+r"(state_));
    return state_;
  }

  /// Goes down where it is not wanted; vCPU 0 brings up whom it finds down and wanted.  A vCPU says
  /// that it goes before it does: brought up in between, it is brought up again.
  void come_and_go() {
    const std::uint32_t wanted = platform::vcpus_wanted();
    if (vcpu_ >= wanted) {
      __atomic_store_n(&gone_[vcpu_], true, __ATOMIC_SEQ_CST);
      down();
      __atomic_store_n(&gone_[vcpu_], false, __ATOMIC_SEQ_CST);
    } else if (vcpu_ == 0) {
      for (std::uint32_t other = 1; other < wanted; ++other) {
        if (__atomic_load_n(&gone_[other], __ATOMIC_SEQ_CST)) platform::vcpu_up(other);
      }
    }
  }

  void report() {
    GuestReport report = observer_.report();
    platform::add_runstate(vcpu_, report);
    publish(slot_, report);
  }

  static inline bool gone_[kMaxGuestVcpus];

  std::uint32_t vcpu_;
  const GuestParameters& parameters_;
  ReportSlot& slot_;
  std::uint64_t state_;
  SliceObserver observer_;
};

/// The first instant from now on that is phase_ns after a multiple of period_ns.
constexpr std::uint64_t next_start(std::uint64_t now_ns, const GuestParameters& parameters) {
  const std::uint64_t period_ns = parameters.period_ns;
  const std::uint64_t phase_ns = parameters.phase_ns % period_ns;
  const std::uint64_t past_ns = (now_ns + period_ns - phase_ns) % period_ns;
  return past_ns == 0 ? now_ns : now_ns + period_ns - past_ns;
}

}  // namespace nemesis
