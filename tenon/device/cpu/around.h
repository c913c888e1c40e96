// Around: a contiguous shape as [outer, extent, inner] around one axis, for kernels that go along it.
#pragma once

#include <cstdint>

#include "tenon/tensor/shape.h"

namespace tenon::cpu {

struct Around {
  // `which` may count from the end; it must exist.
  Around(const Shape& shape, int64_t which) {
    number = which < 0 ? which + static_cast<int64_t>(shape.size()) : which;
    const auto axis = static_cast<size_t>(number);
    for (size_t d = 0; d < axis; ++d) outer *= shape[d];
    extent = shape[axis];
    for (size_t d = axis + 1; d < shape.size(); ++d) inner *= shape[d];
  }
  int64_t outer = 1, extent = 1, inner = 1, number = 0;
};

}  // namespace tenon::cpu
