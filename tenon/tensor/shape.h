// Shapes and axes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tenon/base/inline_vector.h"

namespace tenon {

// Extents of a tensor, outermost first; {} is a scalar (0-d). Also used for axes, strides and other
// short lists of integers.
using Shape = InlineVector<int64_t, 6>;
using Ints = Shape;

// Number of elements; 1 for {}.
int64_t numel(const Shape& shape);
// "[2, 3]"
std::string to_string(const Shape& shape);
// Strides, in elements, of a row-major (C order) tensor of this shape.
Shape contiguous_strides(const Shape& shape);

// The shape that a and b broadcast to (NumPy's rule: align at the right, 1 stretches).
// `where` names the caller in the ShapeError.
Shape broadcast_shapes(std::string_view where, const Shape& a, const Shape& b);

// Turns a possibly negative axis into 0 … rank-1, or throws IndexError.
int64_t normalize_axis(std::string_view where, int64_t axis, int64_t rank);
// The same for a list; also rejects repeated axes. An empty list stays empty.
Ints normalize_axes(std::string_view where, const Ints& axes, int64_t rank);

}  // namespace tenon
