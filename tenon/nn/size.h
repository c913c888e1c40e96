// Size<N>: one number for each of N spatial axes. A single number stands for all of them: {.stride = 2}.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>

#include "tenon/nn/members.h"
#include "tenon/tensor/shape.h"

namespace tenon::nn {

template <int N>
struct Size {
  std::array<int64_t, N> values;
  Size(int64_t all) { values.fill(all); }             // NOLINT(google-explicit-constructor): a number is a size
  Size(int all) : Size(static_cast<int64_t>(all)) {}  // NOLINT(google-explicit-constructor)
  template <class... I>
    requires(sizeof...(I) == N && N > 1)
  Size(I... each) : values{static_cast<int64_t>(each)...} {}  // NOLINT(google-explicit-constructor): {3, 5} is a size
  [[nodiscard]] Ints ints() const {
    Ints list;
    for (int64_t value : values) list.push_back(value);
    return list;
  }
  using Members = nn::Members<>;
};

}  // namespace tenon::nn
