// What tests of convolutions and of tile programs share.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <vector>

#include "tests/device/support.h"

namespace tenon::test {

inline std::vector<float> floats(const Array& x) {
  const std::vector<double> reals = x.reals();
  return {reals.begin(), reals.end()};
}
inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

// … but of a NaN only that it is one.
inline bool same_numbers(const std::vector<float>& a, const std::vector<float>& b) {
  return std::ranges::equal(a, b, [](float x, float y) {
    return (std::isnan(x) && std::isnan(y)) || std::bit_cast<uint32_t>(x) == std::bit_cast<uint32_t>(y);
  });
}

// A tensor [n, channels, spatial…] whose channels lie side by side.
inline Array channels_last(const Shape& shape) {
  return {DType::F32, shape, channels_last_strides(shape), 0, numel(shape)};
}

// sum * operand 1 (a channel's number), plus operand 2 (another tensor), at least operand 3 (one number).
inline ir::ScalarProgram what_follows() {
  const DType f = DType::F32;
  return program_of({f, f, f, f}, [](auto x) {
    const ir::Scalar y = x[0] * x[1] + x[2];
    return select(y < x[3], x[3], y);
  });
}

// The same as a chain of steps, one after the other.
inline ir::ScalarProgram what_follows_in_steps() {
  const DType f = DType::F32;
  return program_of({f, f, f, f},
                    [](auto x) { return ir::apply_op(ir::ScalarOp::Max, std::array{x[2] + x[0] * x[1], x[3]}); });
}
}  // namespace tenon::test
