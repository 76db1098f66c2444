// SPDX-License-Identifier: GPL-2.0-only
//
// What the compiler takes for granted, even of an image without a C library.
#include <cstddef>

extern "C" {
void* memcpy(void* to, const void* from, std::size_t bytes);
}

void* memcpy(void* to, const void* from, std::size_t bytes) {
  void* end = to;
  std::size_t words = bytes / 8;
  std::size_t rest = bytes % 8;
  asm volatile("rep movsq" : "+D"(end), "+S"(from), "+c"(words) : : "memory");
  asm volatile("rep movsb" : "+D"(end), "+S"(from), "+c"(rest) : : "memory");
  return to;
}
