#include "tenon/ops/gather.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/movement.h"
#include "tenon/tensor/element.h"
#include "tenon/tensor/sparse_rows.h"

namespace tenon {
namespace ops {
namespace {

constexpr int kI64 = static_cast<int>(DType::I64);

size_t axis_of(const ir::Attrs& attrs, std::string_view op, size_t rank) {
  return static_cast<size_t>(normalize_axis(op, attrs.integer(0), static_cast<int64_t>(rank)));
}

void check_indices(const InferArgs& a) {
  const Shape &x = a.in[0].shape, &indices = a.in[1].shape;
  const size_t axis = axis_of(a.attrs, a.op.name, x.size());
  bool fits = indices.size() == x.size();
  for (size_t i = 0; fits && i < x.size(); ++i) fits = i == axis || indices[i] == x[i];
  if (!fits)
    fail_shape(a, fmt::format("the indices do not fit x outside of axis {}", axis), to_string(x), to_string(indices));
}

// Both with the batch in front, and the axis moved by one.
Tensors batch_aligned(const BatchArgs& a) {
  Tensors in;
  int64_t rank = 0;
  for (size_t i = 0; i < a.in.size(); ++i) {
    Shape shape = a.in[i].shape();
    if (!a.batched[i]) shape.insert(shape.begin(), a.size);
    in.push_back(expand(a.in[i], shape));
    rank = in.back().ndim() - 1;
  }
  ir::Attrs attrs = a.attrs;
  attrs[0] = normalize_axis(a.op.name, a.attrs.integer(0), rank) + 1;
  return call(a.op, std::move(in), attrs);
}

void combine(const View& out, int64_t to, const ConstView& values, int64_t from, const std::string& mode) {
  if (mode == "set") return convert_element(values, from, out, to);
  if (is_float(out.dtype)) {
    const double a = load_real(out, to), b = load_real(values, from);
    const bool nan = std::isnan(a) || std::isnan(b);
    store_real(out, to, mode == "add" ? a + b : nan ? NAN : mode == "min" ? std::min(a, b) : std::max(a, b));
    return;
  }
  const int64_t a = load_integer(out, to), b = load_integer(values, from);
  const bool smaller = out.dtype == DType::U64 ? static_cast<uint64_t>(b) < static_cast<uint64_t>(a) : b < a;
  if (mode == "add")
    return store_integer(
        out, to, wrap_integer(out.dtype, static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b))));
  store_integer(out, to, (mode == "min") == smaller ? b : a);
}

void scatter_reference(const ReferenceArgs& a) {
  const ConstView &x = a.inputs[0], &indices = a.inputs[1], &values = a.inputs[2];
  const View& out = a.outputs[0];
  const size_t axis = axis_of(a.attrs, "scatter_along_axis", x.shape.size());
  ElementCursor from(x), to(out);
  for (int64_t n = numel(x.shape); n > 0; --n, from.next(), to.next())
    convert_element(x, from.element(), out, to.element());
  ElementCursor index(indices), value(values);
  for (int64_t n = numel(indices.shape); n > 0; --n, index.next(), value.next()) {
    int64_t at = out.offset;
    for (size_t i = 0; i < out.shape.size(); ++i) {
      at += (i == axis ? checked_index("scatter_along_axis", indices, index.element(), x.shape, axis)
                       : index.index()[i]) *
            out.strides[i];
    }
    combine(out, at, values, value.element(), a.attrs.text(1));
  }
}

std::string_view mode_name(ScatterMode mode) {
  switch (mode) {
    case ScatterMode::Set:
      return "set";
    case ScatterMode::Add:
      return "add";
    case ScatterMode::Min:
      return "min";
    case ScatterMode::Max:
      return "max";
  }
  throw InternalError("unknown scatter mode");
}

Tensors scatter_vjp(const VjpArgs& a) {
  const int64_t axis = a.attrs.integer(0);
  const std::string& mode = a.attrs.text(1);
  const Tensor& indices = a.in[1];
  const auto at = [&](const Tensor& t) { return take_along_axis(t, indices, axis); };
  if (mode == "add") return {a.ct[0], Tensor(), at(a.ct[0])};
  if (mode == "set") {
    // Of several values for one element, the last one stays; the others have no gradient.
    const Tensor order = reshape(arange(indices.size()), indices.shape());
    const Tensor winner =
        scatter_along_axis(full(a.in_types[0].shape, -1, DType::I64), indices, order, axis, ScatterMode::Set);
    return {where(less(winner, 0), a.ct[0], 0), Tensor(), where(equal(at(winner), order), at(a.ct[0]), 0)};
  }
  // Min and max: shared among those that equal the result.
  const Tensor hit_x = cast(equal(a.in[0], a.out[0]), a.in_types[0].dtype);
  const Tensor hit_v = cast(equal(a.in[2], at(a.out[0])), a.in_types[0].dtype);
  const Tensor share = a.ct[0] / maximum(scatter_along_axis(hit_x, indices, hit_v, axis, ScatterMode::Add), 1);
  return {share * hit_x, Tensor(), at(share) * hit_v};
}

// Rows that no gradient belongs to are left out.
Tensor embedding_table_gradient(const VjpArgs& a) {
  const TensorType& table = a.in_types[0];
  const int64_t padding = a.attrs.integer(1);
  Tensor rows = flatten(a.in[1]);
  Tensor values = reshape(a.ct[0], {rows.size(), table.shape[1]});
  if (padding >= 0 || a.attrs.flag(0)) rows = remainder(cast(rows, DType::I64), table.shape[0]);
  if (a.attrs.flag(0) && values.has_elements() && !values.requires_grad()) {
    if (padding >= 0) {
      const auto all = rows.to_vector<int64_t>();
      std::vector<int64_t> kept;
      for (size_t i = 0; i < all.size(); ++i) {
        if (all[i] != padding) kept.push_back(static_cast<int64_t>(i));
      }
      const Tensor which = from_vector(kept, {static_cast<int64_t>(kept.size())});
      rows = take(rows, which, 0);
      values = take(values, which, 0);
    }
    return make_sparse_rows(rows, values, table);
  }
  if (padding >= 0) values = where(unsqueeze(equal(rows, padding), {1}), 0, values);
  return index_add(zeros(table.shape, values.dtype()), 0, rows, values);
}

}  // namespace

const OpDef& take_along_axis_op() {
  static const OpDef def{
      .name = "take_along_axis",
      .doc =
          "The elements of x at the given positions of one axis, one position for each element of the result (ONNX "
          "GatherElements).",
      .inputs = {{"x", kAny}, {"indices", kIndex}},
      .attrs = {{"axis", 1, ir::AttrType::Int}},
      .infer =
          [](const InferArgs& a) {
            check_indices(a);
            return std::vector<TensorType>{{a.in[0].dtype, a.in[1].shape}};
          },
      .meaning = Primitive{[](const ReferenceArgs& a) {
        const ConstView &x = a.inputs[0], &indices = a.inputs[1];
        const size_t axis = axis_of(a.attrs, "take_along_axis", x.shape.size());
        ElementCursor index(indices), to(a.outputs[0]);
        for (int64_t n = numel(indices.shape); n > 0; --n, index.next(), to.next()) {
          int64_t at = x.offset;
          for (size_t i = 0; i < x.shape.size(); ++i) {
            at += (i == axis ? checked_index("take_along_axis", indices, index.element(), x.shape, axis)
                             : index.index()[i]) *
                  x.strides[i];
          }
          convert_element(x, at, a.outputs[0], to.element());
        }
      }},
      .gradient = Vjp{[](const VjpArgs& a) {
                        return Tensors{scatter_along_axis(zeros(a.in_types[0].shape, a.in_types[0].dtype), a.in[1],
                                                          a.ct[0], a.attrs.integer(0), ScatterMode::Add),
                                       Tensor()};
                      },
                      bit(1), 0},
      .batching = BatchRule{batch_aligned},
      .samples =
          [] {
            return std::vector<Sample>{{{{{2, 3}}, {{2, 2}, 0, 0, {0, 2, 1, -1}, kI64}}, {int64_t{1}}},
                                       {{{{3, 2}}, {{1, 2}, 0, 0, {2, 0}, kI64}}, {int64_t{0}}}};
          },
      .invalid_samples =
          [] {
            return std::vector<InvalidSample>{
                {{{{2, 3}}, {{2, 1}, 0, 0, {0, 3}, kI64}}, {int64_t{1}}, "out of range"},
                {{{{2, 3}}, {{3, 1}, 0, 0, {0, 0, 0}, kI64}}, {int64_t{1}}, "do not fit"}};
          }};
  return def;
}

const OpDef& scatter_along_axis_op() {
  static const OpDef def{
      .name = "scatter_along_axis",
      .doc =
          "x with values combined (set, add, min, max) into the elements at the given positions of one axis (ONNX "
          "ScatterElements).",
      .inputs = {{"x", kCompute}, {"indices", kIndex}, {"values", kCompute}},
      .attrs = {{"axis", 1, ir::AttrType::Int}, {"mode", 2, ir::AttrType::Text, "set, add, min or max"}},
      .promote = {5, false},
      .infer =
          [](const InferArgs& a) {
            check_indices(a);
            if (a.in[2].shape != a.in[1].shape)
              fail_shape(a, "the values do not fit the indices", to_string(a.in[1].shape), to_string(a.in[2].shape));
            const std::string& mode = a.attrs.text(1);
            if (mode != "set" && mode != "add" && mode != "min" && mode != "max")
              fail_value(a, "unknown mode", "set, add, min or max", mode);
            return std::vector<TensorType>{a.in[0]};
          },
      .meaning = Primitive{scatter_reference},
      .takes = bit(0),
      .gradient = Vjp{scatter_vjp, bit(0) | bit(1) | bit(2), bit(0)},
      .batching = BatchRule{batch_aligned},
      .samples =
          [] {
            std::vector<Sample> s;
            for (const char* mode : {"set", "add", "min", "max"})
              s.push_back(
                  {{{{2, 4}, -2, 2, {}, -1, true}, {{2, 2}, 0, 0, {0, 2, 3, -1}, kI64}, {{2, 2}, -2, 2, {}, -1, true}},
                   {int64_t{1}, std::string(mode)}});
            return s;
          },
      .invalid_samples =
          [] {
            return std::vector<InvalidSample>{
                {{{{2, 3}}, {{2, 1}, 0, 0, {0, 3}, kI64}, {{2, 1}}}, {int64_t{1}, std::string("set")}, "out of range"},
                {{{{2, 3}}, {{2, 1}, 0, 0, {0, 1}, kI64}, {{2, 2}}}, {int64_t{1}, std::string("set")}, "do not fit"},
                {{{{2, 3}}, {{2, 1}, 0, 0, {0, 1}, kI64}, {{2, 1}}}, {int64_t{1}, std::string("mul")}, "unknown mode"}};
          }};
  return def;
}

const OpDef& embedding_op() {
  static const OpDef def{
      .name = "embedding",
      .doc =
          "Rows of a table at the given positions. With `sparse`, the table's gradient holds only the rows used; the "
          "row "
          "`padding` has none.",
      .inputs = {{"table", kFloats}, {"indices", kIndex}},
      .attrs = {{"sparse", 1, ir::AttrType::Flag, "row-sparse gradient"},
                {"padding", 2, ir::AttrType::Int, "a row without a gradient, or -1"}},
      .infer =
          [](const InferArgs& a) {
            expect_rank(a, 0, 2, 2);
            const Shape& table = a.in[0].shape;
            if (a.attrs.integer(1) < -1 || (a.attrs.integer(1) >= table[0] && table[0] > 0))
              fail_value(a, "there is no such padding row", fmt::format("-1 to {}", table[0] - 1),
                         std::to_string(a.attrs.integer(1)));
            Shape shape = a.in[1].shape;
            shape.push_back(table[1]);
            return std::vector<TensorType>{{a.in[0].dtype, shape}};
          },
      .meaning = Composite{[](std::span<const Tensor> in, const ir::Attrs&) { return Tensors{take(in[0], in[1], 0)}; }},
      .gradient = Vjp{[](const VjpArgs& a) { return Tensors{embedding_table_gradient(a), Tensor()}; }, bit(1), 0},
      .batching = BatchBody{},
      .samples =
          [] {
            return std::vector<Sample>{{{{{5, 3}}, {{2, 2}, 0, 0, {0, 4, 1, 4}, kI64}}, {false, int64_t{-1}}},
                                       {{{{5, 3}}, {{3}, 0, 0, {2, 2, -1}, kI64}}, {true, int64_t{-1}}}};
          },
      .invalid_samples =
          [] {
            return std::vector<InvalidSample>{
                {{{{5, 3}}, {{1}, 0, 0, {5}, kI64}}, {false, int64_t{-1}}, "out of range"},
                {{{{5}}, {{1}, 0, 0, {0}, kI64}}, {false, int64_t{-1}}, "wrong rank"},
                {{{{5, 3}}, {{1}, 0, 0, {0}, kI64}}, {false, int64_t{5}}, "no such padding row"}};
          }};
  return def;
}

int64_t padding_row(std::string_view where, std::optional<int64_t> index, const Tensor& table) {
  const int64_t rows = table.ndim() > 0 ? table.shape(0) : 0;
  if (index && (*index < -rows || *index >= rows))
    throw IndexError({std::string(where),
                      "there is no such padding row",
                      fmt::format("{} to {}", -rows, rows - 1),
                      std::to_string(*index),
                      {}});
  return !index ? -1 : *index < 0 ? *index + rows : *index;
}

std::vector<const OpDef*> gather_ops() { return {&take_along_axis_op(), &scatter_along_axis_op(), &embedding_op()}; }

}  // namespace ops

Tensor take_along_axis(Tensor x, Tensor indices, int64_t axis) {
  const int64_t at = normalize_axis("take_along_axis", axis, x.ndim());
  if (indices.ndim() == x.ndim()) {
    Shape to_x = x.shape(), to_indices = indices.shape();
    for (size_t i = 0; i < to_x.size(); ++i) {
      if (static_cast<int64_t>(i) == at) continue;
      if (to_x[i] == 1) to_x[i] = to_indices[i];
      if (to_indices[i] == 1) to_indices[i] = to_x[i];
    }
    x = expand(std::move(x), to_x);
    indices = expand(std::move(indices), to_indices);
  }
  return ops::call1(ops::take_along_axis_op(), {std::move(x), std::move(indices)}, {axis});
}

Tensor scatter_along_axis(Tensor x, Tensor indices, Tensor values, int64_t axis, ScatterMode mode) {
  return ops::call1(ops::scatter_along_axis_op(), {std::move(x), std::move(indices), std::move(values)},
                    {axis, std::string(ops::mode_name(mode))});
}

Tensor one_hot(Tensor indices, int64_t classes, DType dtype) {
  return cast(equal(unsqueeze(std::move(indices), {-1}), arange(classes)), dtype);
}

Tensor embedding(Tensor table, Tensor indices, bool sparse, std::optional<int64_t> padding_index) {
  const int64_t padding = ops::padding_row("embedding", padding_index, table);
  return ops::call1(ops::embedding_op(), {std::move(table), std::move(indices)}, {sparse, padding});
}

}  // namespace tenon
