// What every fuzz target does: a typed Error is the right answer to bad bytes, anything else that is thrown is a bug.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "tenon/base/error.h"
#include "tenon/data/host_array.h"

namespace tenon::fuzz {

// Small, so that a false header cannot make the fuzzer itself run out of memory.
inline constexpr data::ReadLimits limits{.max_bytes = 1 << 22, .max_pixels = 1 << 18};

template <class Fn>
int run(const uint8_t* data, size_t size, Fn&& parse) {
  try {
    parse(std::as_bytes(std::span(data, size)));
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): refused, as it should be
  }
  return 0;
}

// What was read and written again must be read as the same.
inline void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace tenon::fuzz
