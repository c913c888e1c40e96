#include "tenon/ops/indexing.h"

#include <fmt/format.h>

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/movement.h"
#include "tenon/tensor/element.h"

namespace tenon {
namespace ops {
namespace {

std::vector<TensorType> infer_take(const InferArgs& a) {
  const auto axis =
      static_cast<size_t>(normalize_axis(a.op.name, a.attrs.integer(0), static_cast<int64_t>(a.in[0].shape.size())));
  const Shape& x = a.in[0].shape;
  Shape shape(x.begin(), x.begin() + axis);
  for (int64_t d : a.in[1].shape) shape.push_back(d);
  for (size_t i = axis + 1; i < x.size(); ++i) shape.push_back(x[i]);
  return {{a.in[0].dtype, shape}};
}

void take_reference(const ReferenceArgs& a) {
  const ConstView &x = a.inputs[0], &indices = a.inputs[1];
  const View& out = a.outputs[0];
  const auto k = static_cast<size_t>(normalize_axis("take", a.attrs.integer(0), static_cast<int64_t>(x.shape.size())));
  const size_t inner = indices.shape.size();
  ElementCursor to(out);
  for (int64_t n = numel(out.shape); n > 0; --n, to.next()) {
    const Shape& at = to.index();
    int64_t which = indices.offset, from = x.offset;
    for (size_t i = 0; i < inner; ++i) which += at[k + i] * indices.strides[i];
    for (size_t i = 0; i < x.shape.size(); ++i) {
      const int64_t p = i == k ? checked_index("take", indices, which, x.shape, k) : at[i < k ? i : i + inner - 1];
      from += p * x.strides[i];
    }
    convert_element(x, from, out, to.element());
  }
}

}  // namespace

const OpDef& take_op() {
  static const OpDef def{
      .name = "take",
      .doc = "Slices of x along an axis at the given positions; negative positions count from the end.",
      .inputs = {{"x", kAny}, {"indices", kIndex}},
      .attrs = {{"axis", 1, ir::AttrType::Int}},
      .infer = infer_take,
      .meaning = Primitive{take_reference},
      .gradient =
          Vjp{[](const VjpArgs& a) {
                const int64_t axis =
                    normalize_axis("take", a.attrs.integer(0), static_cast<int64_t>(a.in_types[0].shape.size()));
                const Tensor& indices = a.in[1];
                const Tensor values = reshape(a.ct[0], [&] {
                  Shape s = a.in_types[0].shape;
                  s[static_cast<size_t>(axis)] = indices.size();
                  return s;
                }());
                return Tensors{index_add(zeros(a.in_types[0].shape, a.ct[0].dtype()), axis, flatten(indices), values),
                               Tensor()};
              },
              bit(1), 0},
      .batching = BatchRule{[](const BatchArgs& a) {
        const int64_t rank = a.in[0].ndim() - (a.batched[0] ? 1 : 0);
        const int64_t axis = normalize_axis("take", a.attrs.integer(0), rank);
        if (!a.batched[1]) return Tensors{take(a.in[0], a.in[1], axis + 1)};
        if (!a.batched[0]) return Tensors{moveaxis(take(a.in[0], a.in[1], axis), axis, 0)};
        // Both: one long axis of batch * extent, and positions shifted by the example.
        const Tensor x = moveaxis(a.in[0], axis + 1, 1);
        const int64_t extent = x.shape(1);
        Shape merged = x.shape();
        merged.erase(merged.begin());
        merged[0] = a.size * extent;
        Shape column(static_cast<size_t>(a.in[1].ndim()), 1);
        column[0] = a.size;
        const Tensor positions =
            remainder(cast(a.in[1], DType::I64), extent) + reshape(arange(a.size) * extent, column);
        Tensor y = take(reshape(x, merged), positions, 0);
        // [B, indices…, rest…]: the index axes go back to where the axis was.
        const int64_t n = a.in[1].ndim() - 1;
        Ints order{0};
        for (int64_t i = 0; i < axis; ++i) order.push_back(1 + n + i);
        for (int64_t i = 0; i < n; ++i) order.push_back(1 + i);
        for (int64_t i = 1 + n + axis; i < y.ndim(); ++i) order.push_back(i);
        return Tensors{permute(y, order)};
      }},
      .samples =
          [] {
            const int i64 = static_cast<int>(DType::I64), i32 = static_cast<int>(DType::I32);
            return std::vector<Sample>{{{{{4, 3}}, {{2, 2}, 0, 0, {0, 3, -1, 3}, i64}}, {int64_t{0}}},
                                       {{{{2, 4}}, {{3}, 0, 0, {1, 1, -4}, i32}}, {int64_t{-1}}},
                                       {{{{4}}, {{}, 0, 0, {2}, i64}}, {int64_t{0}}},
                                       {{{{4, 3}}, {{0}, 0, 0, {}, i64}}, {int64_t{0}}}};
          },
      .invalid_samples =
          [] {
            const int i64 = static_cast<int>(DType::I64);
            return std::vector<InvalidSample>{{{{{4}}, {{1}, 0, 0, {4}, i64}}, {int64_t{0}}, "index out of range"},
                                              {{{{4}}, {{1}, 0, 0, {0}, i64}}, {int64_t{1}}, "axis"}};
          }};
  return def;
}

const OpDef& index_add_op() {
  static const OpDef def{
      .name = "index_add",
      .doc =
          "x with values added to its slices along an axis at the given positions. Repeated positions add up, in "
          "order.",
      .inputs = {{"x", kNumbers}, {"indices", kIndex}, {"values", kNumbers}},
      .attrs = {{"axis", 1, ir::AttrType::Int}},
      .promote = {5, false},
      .infer =
          [](const InferArgs& a) {
            const int64_t axis =
                normalize_axis(a.op.name, a.attrs.integer(0), static_cast<int64_t>(a.in[0].shape.size()));
            expect_rank(a, 1, 1, 1);
            Shape want = a.in[0].shape;
            want[static_cast<size_t>(axis)] = a.in[1].shape[0];
            if (a.in[2].shape != want)
              fail_shape(a, "the values do not fit the positions", to_string(want), to_string(a.in[2].shape));
            return std::vector<TensorType>{a.in[0]};
          },
      .meaning = Primitive{[](const ReferenceArgs& a) {
        const ConstView &x = a.inputs[0], &indices = a.inputs[1], &values = a.inputs[2];
        const View& out = a.outputs[0];
        const auto axis =
            static_cast<size_t>(normalize_axis("index_add", a.attrs.integer(0), static_cast<int64_t>(x.shape.size())));
        ElementCursor from(x), to(out);
        for (int64_t n = numel(x.shape); n > 0; --n, from.next(), to.next())
          convert_element(x, from.element(), out, to.element());
        ElementCursor value(values);
        for (int64_t n = numel(values.shape); n > 0; --n, value.next()) {
          int64_t at = out.offset;
          for (size_t i = 0; i < out.shape.size(); ++i) {
            const int64_t p =
                i != axis ? value.index()[i]
                          : checked_index("index_add", indices, indices.offset + value.index()[i] * indices.strides[0],
                                          x.shape, axis);
            at += p * out.strides[i];
          }
          if (is_float(out.dtype)) {
            store_real(out, at, load_real(out, at) + load_real(values, value.element()));
          } else {
            store_integer(out, at,
                          wrap_integer(out.dtype, load_integer(out, at) + load_integer(values, value.element())));
          }
        }
      }},
      .takes = bit(0),
      .gradient = Vjp{[](const VjpArgs& a) {
                        return Tensors{a.ct[0], Tensor(),
                                       a.needs[2] ? take(a.ct[0], a.in[1], a.attrs.integer(0)) : Tensor()};
                      },
                      bit(1), 0},
      .batching = BatchRule{[](const BatchArgs& a) {
        const int64_t rank = a.in[0].ndim() - (a.batched[0] ? 1 : 0);
        const int64_t axis = normalize_axis("index_add", a.attrs.integer(0), rank);
        const auto lead = [&](size_t i) {
          Shape s = a.in[i].shape();
          if (!a.batched[i]) s.insert(s.begin(), a.size);
          return expand(a.in[i], s);
        };
        const Tensor x = lead(0), values = lead(2);
        if (!a.batched[1]) return Tensors{index_add(x, axis + 1, a.in[1], values)};
        // One long axis of batch * extent, and positions shifted by the example.
        const Tensor rows = moveaxis(x, axis + 1, 1), row_values = moveaxis(values, axis + 1, 1);
        const int64_t extent = rows.shape(1), n = a.in[1].shape(1);
        Shape merged(rows.shape().begin() + 1, rows.shape().end());
        merged[0] = a.size * extent;
        Shape merged_values = merged;
        merged_values[0] = a.size * n;
        const Tensor positions =
            remainder(cast(a.in[1], DType::I64), extent) + reshape(arange(a.size) * extent, {a.size, 1});
        const Tensor y = index_add(reshape(rows, merged), 0, flatten(positions), reshape(row_values, merged_values));
        return Tensors{moveaxis(reshape(y, rows.shape()), 1, axis + 1)};
      }},
      .samples =
          [] {
            const int i64 = static_cast<int>(DType::I64);
            return std::vector<Sample>{{{{{4, 3}}, {{3}, 0, 0, {0, 3, 0}, i64}, {{3, 3}}}, {int64_t{0}}},
                                       {{{{2, 4}}, {{2}, 0, 0, {1, -1}, i64}, {{2, 2}}}, {int64_t{1}}}};
          },
      .invalid_samples =
          [] {
            const int i64 = static_cast<int>(DType::I64);
            return std::vector<InvalidSample>{
                {{{{4}}, {{1}, 0, 0, {4}, i64}, {{1}}}, {int64_t{0}}, "index out of range"},
                {{{{4}}, {{2}, 0, 0, {0, 1}, i64}, {{3}}}, {int64_t{0}}, "do not fit"}};
          }};
  return def;
}

std::vector<const OpDef*> indexing_ops() { return {&take_op(), &index_add_op()}; }

}  // namespace ops

Tensor take(Tensor x, Tensor indices, int64_t axis) {
  return ops::call1(ops::take_op(), {std::move(x), std::move(indices)}, {axis});
}
Tensor index_add(Tensor x, int64_t axis, Tensor indices, Tensor values) {
  return ops::call1(ops::index_add_op(), {std::move(x), std::move(indices), std::move(values)}, {axis});
}

}  // namespace tenon
