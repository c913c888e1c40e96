// Movement: the same elements in another arrangement.
//
// reshape, permute, expand, slice and flip share the input's buffer (a tensor is immutable, so nobody can tell);
// the others copy. Axes may be negative.
// Errors: ShapeError, IndexError or ValueError that name the op and what would fit.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon {

// The same elements in row-major order under another shape; one extent may be -1.
Tensor reshape(Tensor x, Shape shape);
Tensor flatten(Tensor x, int64_t start_axis = 0, int64_t end_axis = -1);
Tensor squeeze(Tensor x, Ints axes = {});  // drops axes of extent 1 (all of them if none is named)
Tensor unsqueeze(Tensor x, Ints axes);     // adds axes of extent 1 at these places of the result
// Axis i of the result is axis order[i] of x.
Tensor permute(Tensor x, const Ints& order);
Tensor transpose(Tensor x, int64_t a = -2, int64_t b = -1);
Tensor moveaxis(Tensor x, int64_t from, int64_t to);
// Broadcasts to the shape; -1 keeps an extent.
Tensor expand(Tensor x, Shape shape);
inline Tensor broadcast_to(Tensor x, Shape shape) { return expand(std::move(x), std::move(shape)); }
// Elements start, start+step, … before stop, along each named axis (Python's rules: negative positions
// count from the end, out-of-range ones are clipped; a negative step runs backwards). step 0 is a ValueError.
Tensor slice(Tensor x, const Ints& axes, const Ints& starts, const Ints& stops, Ints steps = {});
// To mean "from the end" with a negative step, and "to the end" with any.
inline constexpr int64_t kEnd = INT64_MAX;
Tensor flip(Tensor x, const Ints& axes);
// One element of an axis, which disappears.
Tensor select(Tensor x, int64_t axis, int64_t index);
// length elements from start along an axis.
Tensor narrow(Tensor x, int64_t axis, int64_t start, int64_t length);

// Adds `before[i]` and `after[i]` elements of `value` to axis i; negative counts cut.
Tensor pad(Tensor x, const Ints& before, const Ints& after, Tensor value = 0);
enum class PadMode : uint8_t { Reflect, Replicate, Circular };
Tensor pad(Tensor x, const Ints& before, const Ints& after, PadMode mode);
// These axes cut, or padded with zeros, on both sides alike until they have these extents; an odd element is cut at the
// high end, and added there.
Tensor center_crop(Tensor x, const Ints& axes, const Ints& extents);
Tensor concat(const Tensors& parts, int64_t axis = 0);
Tensor stack(const Tensors& parts, int64_t axis = 0);
// Parts of these sizes, or of equal size (the last may be smaller).
Tensors split(Tensor x, const Ints& sizes, int64_t axis = 0);
Tensors chunk(Tensor x, int64_t chunks, int64_t axis = 0);
Tensor tile(Tensor x, const Ints& repeats);                         // the whole, repeated
Tensor repeat_interleave(Tensor x, int64_t repeats, int64_t axis);  // each element, repeated
Tensor roll(Tensor x, const Ints& shifts, const Ints& axes);
// Lower / upper triangle of the last two axes, zeros elsewhere.
Tensor tril(Tensor x, int64_t diagonal = 0);
Tensor triu(Tensor x, int64_t diagonal = 0);
Tensor diagonal(Tensor x, int64_t offset = 0);  // of the last two axes
// Row-major in memory: x itself, or a copy. Only for handing elements out (data<T>()): no gradient flows through it.
Tensor contiguous(Tensor x);

namespace ops {
std::vector<const OpDef*> movement_ops();
}  // namespace ops

}  // namespace tenon
