// Whether two tensors are the same to the last bit.
#pragma once

#include <cstring>

#include "tenon/ops/movement.h"

namespace tenon::testing_support {

inline bool same_bits(const Tensor& x, const Tensor& y) {
  const Tensor a = contiguous(x), b = contiguous(y);
  if (a.type() != b.type()) return false;
  const auto one = a.data<std::byte>(), other = b.data<std::byte>();
  return one.empty() || std::memcmp(one.data(), other.data(), one.size()) == 0;
}

}  // namespace tenon::testing_support
