// SPDX-License-Identifier: GPL-2.0-only
//
// A value, or why there is none.
#pragma once

#include <string>
#include <utility>
#include <variant>

namespace nemesis {

struct Error {
  int errnum;        ///< errno, 0 where there is none (bad input)
  std::string what;  ///< for people: culprit, and remedy where one is known
};

template <typename T>
class [[nodiscard]] Result {
 public:
  // Implicit, so that `return value;` and `return Error{…};` both read as they should.
  // cppcheck-suppress noExplicitConstructor
  Result(T value) : state_(std::move(value)) {}
  // cppcheck-suppress noExplicitConstructor
  Result(Error error) : state_(std::move(error)) {}

  [[nodiscard]] explicit operator bool() const { return std::holds_alternative<T>(state_); }
  [[nodiscard]] T& operator*() { return std::get<T>(state_); }
  [[nodiscard]] const T& operator*() const { return std::get<T>(state_); }
  [[nodiscard]] T* operator->() { return &std::get<T>(state_); }
  [[nodiscard]] const T* operator->() const { return &std::get<T>(state_); }
  [[nodiscard]] const Error& error() const { return std::get<Error>(state_); }

 private:
  std::variant<T, Error> state_;
};

/// Success without a value.
struct Done {};
using Status = Result<Done>;

}  // namespace nemesis
