#include "tenon/device/cpu/nest.h"

#include <algorithm>
#include <cstdlib>

namespace tenon::cpu {

Nest make_nest(const Shape& shape, std::span<const Shape* const> strides) {
  InlineVector<int32_t, 8> order;
  for (size_t d = 0; d < shape.size(); ++d) {
    if (shape[d] != 1) order.push_back(static_cast<int32_t>(d));
  }
  const Shape& lead = *strides[0];
  const auto before = [&](int32_t a, int32_t b) {
    return std::abs(lead[static_cast<size_t>(a)]) > std::abs(lead[static_cast<size_t>(b)]);
  };
  if (!std::is_sorted(order.begin(), order.end(), before)) std::stable_sort(order.begin(), order.end(), before);

  Nest nest;
  nest.strides.resize(strides.size());
  for (int32_t axis : order) {
    const auto d = static_cast<size_t>(axis);
    bool joins = !nest.shape.empty();
    for (size_t k = 0; k < strides.size() && joins; ++k) {
      joins = nest.strides[k].back() == (*strides[k])[d] * shape[d];
    }
    if (joins) {
      nest.shape.back() *= shape[d];
      for (size_t k = 0; k < strides.size(); ++k) nest.strides[k].back() = (*strides[k])[d];
    } else {
      nest.shape.push_back(shape[d]);
      for (size_t k = 0; k < strides.size(); ++k) nest.strides[k].push_back((*strides[k])[d]);
    }
  }
  if (nest.shape.empty()) {
    nest.shape.push_back(1);
    for (Shape& s : nest.strides) s.push_back(1);
  }
  return nest;
}

}  // namespace tenon::cpu
