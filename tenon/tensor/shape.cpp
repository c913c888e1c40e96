#include "tenon/tensor/shape.h"

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/tensor/type.h"

namespace tenon {
namespace {

// Where two shapes do not fit at the right: would they fit at the left? That is the usual mistake.
std::string broadcast_hint(const Shape& a, const Shape& b) {
  const Shape& longer = a.size() >= b.size() ? a : b;
  const Shape& shorter = a.size() >= b.size() ? b : a;
  if (shorter.empty() || shorter.size() == longer.size()) return {};
  for (size_t skip = 0; skip + shorter.size() < longer.size(); ++skip) {
    bool fits = true;
    for (size_t i = 0; i < shorter.size(); ++i) {
      fits = fits && (shorter[i] == longer[skip + i] || shorter[i] == 1 || longer[skip + i] == 1);
    }
    if (!fits) continue;
    Shape widened = shorter;
    while (widened.size() + skip < longer.size()) widened.push_back(1);
    std::string text = to_string(widened);
    text.front() = '{';
    text.back() = '}';
    return "reshape the operand of shape " + to_string(shorter) + " to " + text;
  }
  return {};
}

}  // namespace

int64_t numel(const Shape& shape) {
  int64_t n = 1;
  for (int64_t extent : shape) n *= extent;
  return n;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

std::string to_string(const TensorType& type) { return std::string(name(type.dtype)) + to_string(type.shape); }

Shape contiguous_strides(const Shape& shape) {
  Shape strides(shape.size());
  int64_t step = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = step;
    step *= std::max<int64_t>(shape[i], 1);
  }
  return strides;
}

Shape broadcast_shapes(std::string_view where, const Shape& a, const Shape& b) {
  if (a == b) return a;
  const size_t rank = std::max(a.size(), b.size());
  Shape result(rank);
  for (size_t i = 0; i < rank; ++i) {  // counted from the right
    const int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1;
    const int64_t y = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (x != y && x != 1 && y != 1) {
      throw ShapeError({.where = std::string(where),
                        .problem = "the operands cannot be broadcast together: " + std::to_string(x) + " against " +
                                   std::to_string(y) + " on axis -" + std::to_string(i + 1),
                        .expected = "extents that are equal or 1, aligned at the right",
                        .got = "shapes " + to_string(a) + " and " + to_string(b),
                        .hint = broadcast_hint(a, b)});
    }
    result[rank - 1 - i] = x == 1 ? y : x;
  }
  return result;
}

int64_t normalize_axis(std::string_view where, int64_t axis, int64_t rank) {
  const int64_t result = axis < 0 ? axis + rank : axis;
  if (result >= 0 && result < rank) return result;
  throw IndexError({.where = std::string(where),
                    .problem = "axis out of range",
                    .expected = rank == 0 ? "no axis, because the tensor is 0-d"
                                          : std::to_string(-rank) + " to " + std::to_string(rank - 1) + " for " +
                                                std::to_string(rank) + (rank == 1 ? " dimension" : " dimensions"),
                    .got = std::to_string(axis)});
}

Ints normalize_axes(std::string_view where, const Ints& axes, int64_t rank) {
  Ints result;
  for (int64_t axis : axes) {
    const int64_t normal = normalize_axis(where, axis, rank);
    if (std::find(result.begin(), result.end(), normal) != result.end()) {
      throw ValueError(
          {.where = std::string(where),
           .problem = "an axis is given twice",
           .expected = "each axis at most once",
           .got = "axes " + to_string(axes) + " of a tensor with " + std::to_string(rank) + " dimensions"});
    }
    result.push_back(normal);
  }
  return result;
}

}  // namespace tenon
