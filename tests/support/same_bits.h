// Whether two tensors are the same to the last bit.
#pragma once

#include <algorithm>

#include "tenon/ops/movement.h"

namespace tenon::testing_support {

inline bool same_bits(const Tensor& x, const Tensor& y) {
  const Tensor a = contiguous(x), b = contiguous(y);
  return a.type() == b.type() && std::ranges::equal(a.data<std::byte>(), b.data<std::byte>());
}

}  // namespace tenon::testing_support
