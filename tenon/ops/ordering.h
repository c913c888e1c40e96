// Order: sorting, the largest few, distinct values, positions.
//
// NaN counts as larger than any number. Sorting is stable: equal elements keep their order, in both directions.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon {

struct Sorted {
  Tensor values, indices;  // indices: i64, positions along the axis; take_along_axis(x, indices, axis) is values
};
Sorted sort(Tensor x, int64_t axis = -1, bool descending = false);
Tensor argsort(Tensor x, int64_t axis = -1, bool descending = false);
// The k largest (or smallest) along the axis, best first. Errors: ValueError if k is out of range.
Sorted topk(Tensor x, int64_t k, int64_t axis = -1, bool largest = true);
// The median along an axis, which disappears: the lower one of two. And its position.
Sorted median(Tensor x, int64_t axis = -1);

// Each value once, in rising order, of the flattened x. Eager only: the shape depends on the values.
struct Unique {
  Tensor values;
  Tensor indices;  // i64 [n]: where each value stands first in the flattened x
  Tensor inverse;  // i64, of x's shape: which value each element is
  Tensor counts;   // i64 [n]
};
Unique unique(Tensor x);
// Each slice along the axis once, in lexicographic order.
Unique unique(Tensor x, int64_t axis);
// Positions of the elements that are not 0, i64 [n, rank] in row-major order (NumPy's argwhere). Eager only.
Tensor nonzero(Tensor x);
// The elements of x where the mask (of x's shape, or broadcast to it) is true, in a row. Eager only.
Tensor masked_select(Tensor x, Tensor mask);
// For each value, the first place in the sorted row at which it could be put in (`right`: the last).
Tensor searchsorted(Tensor sorted, Tensor values, bool right = false);
// How often each of 0 … length-1 occurs among non-negative integers (length -1: up to the largest), or the sums of
// weights.
Tensor bincount(Tensor x, Tensor weights = {}, int64_t length = -1);

namespace ops {
// attrs: axis, descending; results: values, places (i64).
const OpDef& sort_op();
std::vector<const OpDef*> ordering_ops();
}  // namespace ops

}  // namespace tenon
