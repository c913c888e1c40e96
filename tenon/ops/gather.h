// Elements chosen one by one along an axis, and embedding tables.
#pragma once

#include <optional>

#include "tenon/ops/opdef.h"

namespace tenon {

// result[i, j, …] = x[i, indices[i, j, …], …] with the index in place of `axis`; indices has x's rank and broadcasts
// against it outside of the axis. Negative positions count from the end.
// Errors: IndexError for a position out of range; ShapeError if the shapes do not fit.
Tensor take_along_axis(Tensor x, Tensor indices, int64_t axis);
enum class ScatterMode : uint8_t { Set, Add, Min, Max };
// x with values combined into the elements that take_along_axis would read. indices and values have one shape;
// repeated positions are combined in order.
Tensor scatter_along_axis(Tensor x, Tensor indices, Tensor values, int64_t axis, ScatterMode mode = ScatterMode::Set);
// One more axis (the last) of extent `classes`: 1 at the index, 0 elsewhere (everywhere, for an index out of range).
Tensor one_hot(Tensor indices, int64_t classes, DType dtype = DType::F32);
// Rows of the table [n, width] at these positions. With `sparse`, the table's gradient is row-sparse: an optimiser's
// update touches only the rows used. The row at `padding_index` (negative: from the end) has no gradient.
Tensor embedding(Tensor table, Tensor indices, bool sparse = false, std::optional<int64_t> padding_index = {});

namespace ops {
// The number of a padding row counted from the front, -1 without one. Errors: IndexError if there is no such row.
int64_t padding_row(std::string_view where, std::optional<int64_t> index, const Tensor& table);
const OpDef& take_along_axis_op();
const OpDef& scatter_along_axis_op();
const OpDef& embedding_op();
std::vector<const OpDef*> gather_ops();
}  // namespace ops

}  // namespace tenon
