// SPDX-License-Identifier: GPL-2.0-only
//
// A guest's line to xenstore: a page with two rings of bytes, and an event channel
// (docs/misc/xenstore-ring.txt and xenstore.txt in Xen).
//
// One request at a time, so that the ring of requests is empty before each.  Of watches it is known
// only that one of them fired.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "hypercall.hpp"
#include "platform.hpp"

// clang-format off
#include <xen/io/xs_wire.h>
// clang-format on

namespace nemesis::platform {

/// A number as xenstore has it.
class Decimal {
 public:
  explicit Decimal(std::uint64_t value)
      : end_(std::to_chars(digits_, digits_ + sizeof(digits_), value).ptr) {}

  [[nodiscard]] std::string_view text() const {
    return {digits_, static_cast<std::size_t>(end_ - digits_)};
  }

 private:
  char digits_[20] = {};
  const char* end_;
};

class Store {
 public:
  /// Ends a path.
  static constexpr std::string_view kEnd{"\0", 1};

  /// ring: the shared page; port: ours, the other end xenstored's.
  Store(xenstore_domain_interface& ring, std::uint32_t port) : ring_(ring), port_(port) {}

  /// Sends the parts as one request of that type (XS_READ …) and returns what is answered, which
  /// the next request overwrites.  Gives up where that is an error.
  std::string_view ask(xsd_sockmsg_type type, std::initializer_list<std::string_view> parts) {
    xsd_sockmsg header{.type = type, .req_id = 0, .tx_id = 0, .len = 0};
    for (const std::string_view part : parts) header.len += static_cast<std::uint32_t>(part.size());
    if (sizeof(header) + header.len > XENSTORE_RING_SIZE) fail(GuestFailure::kStore, header.len);
    put(&header, sizeof(header));
    for (const std::string_view part : parts) put(part.data(), part.size());
    notify(port_);
    do {
      header = receive();
    } while (header.type == XS_WATCH_EVENT);
    if (header.type != type) fail(GuestFailure::kStore, header.type);
    return {answer_, header.len};
  }

  /// The number that a node has.
  [[nodiscard]] std::uint64_t number(std::string_view path) {
    const std::string_view text = ask(XS_READ, {path, kEnd});
    std::uint64_t value = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    if (parsed.ec != std::errc{}) fail(GuestFailure::kStore, 0);
    return value;
  }

  /// Whether a watch has fired since the last time; costs nothing where none has.
  [[nodiscard]] bool fired() {
    while (__atomic_load_n(&ring_.rsp_prod, __ATOMIC_ACQUIRE) != ring_.rsp_cons) receive();
    const bool fired = fired_;
    fired_ = false;
    return fired;
  }

 private:
  static constexpr std::size_t kAnswerBytes = 512;

  void put(const void* bytes, std::size_t count) {
    const auto* from = static_cast<const char*>(bytes);
    XENSTORE_RING_IDX place = ring_.req_prod;
    for (std::size_t i = 0; i < count; ++i) ring_.req[MASK_XENSTORE_IDX(place++)] = from[i];
    __atomic_store_n(&ring_.req_prod, place, __ATOMIC_RELEASE);
  }

  void get(void* bytes, std::size_t count) {
    auto* to = static_cast<char*>(bytes);
    for (std::size_t i = 0; i < count; ++i) {
      const XENSTORE_RING_IDX place = ring_.rsp_cons;
      while (__atomic_load_n(&ring_.rsp_prod, __ATOMIC_ACQUIRE) == place) wait_for(port_);
      to[i] = ring_.rsp[MASK_XENSTORE_IDX(place)];
      __atomic_store_n(&ring_.rsp_cons, place + 1, __ATOMIC_RELEASE);
    }
  }

  /// One message, its payload in answer_.
  xsd_sockmsg receive() {
    xsd_sockmsg header{};
    get(&header, sizeof(header));
    if (header.len > kAnswerBytes) fail(GuestFailure::kStore, header.len);
    get(answer_, header.len);
    notify(port_);  // there is room again
    if (header.type == XS_WATCH_EVENT) fired_ = true;
    return header;
  }

  xenstore_domain_interface& ring_;
  std::uint32_t port_;
  bool fired_ = false;
  char answer_[kAnswerBytes] = {};
};

}  // namespace nemesis::platform
