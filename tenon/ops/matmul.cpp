#include "tenon/ops/matmul.h"

#include <fmt/format.h>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"
#include "tenon/tensor/element.h"

namespace tenon {
namespace {

// a and b as users give them, vectors too.
Tensor product(const ops::OpDef& op, Tensor a, Tensor b) {
  if (a.ndim() == 0 || b.ndim() == 0)
    throw ShapeError({std::string(op.name), "a 0-d tensor has no axis to contract", "at least one axis",
                      fmt::format("{} @ {}", to_string(a.shape()), to_string(b.shape())), "a * b"});
  const bool row = a.ndim() == 1, column = b.ndim() == 1;
  if (row) a = unsqueeze(std::move(a), {0});
  if (column) b = unsqueeze(std::move(b), {1});
  Tensor y;
  if (a.ndim() > 2 && b.ndim() == 2 && a.shape(-1) == b.shape(0) && a.size() != 0) {
    // One large product instead of a batch of small ones.
    Shape shape = a.shape();
    shape.back() = b.shape(1);
    y = reshape(ops::call1(op, {reshape(std::move(a), {-1, b.shape(0)}), b}), shape);
  } else {
    y = ops::call1(op, {std::move(a), std::move(b)});
  }
  if (!row && !column) return y;
  Shape shape(y.shape().begin(), y.shape().end() - 2);
  if (!row) shape.push_back(y.shape(-2));
  if (!column) shape.push_back(y.shape(-1));
  return reshape(std::move(y), shape);
}

}  // namespace

namespace ops {
namespace {

Shape batch_of(const Shape& s) { return Shape(s.begin(), s.end() - 2); }

Shape product_shape(const InferArgs& a) {
  expect_rank(a, 0, 2);
  expect_rank(a, 1, 2);
  const Shape &x = a.in[0].shape, &y = a.in[1].shape;
  if (x.back() != y[y.size() - 2])
    fail_shape(a, "the inner extents differ", fmt::format("[…, {}, n]", x.back()),
               fmt::format("{} @ {}", to_string(x), to_string(y)),
               x.back() == y.back() ? "matmul(a, transpose(b))" : "");
  Shape shape = broadcast_shapes(a.op.name, batch_of(x), batch_of(y));
  shape.push_back(x[x.size() - 2]);
  shape.push_back(y.back());
  return shape;
}
std::vector<TensorType> infer_matmul(const InferArgs& a) { return {{a.in[0].dtype, product_shape(a)}}; }
std::vector<TensorType> infer_matmul_integer(const InferArgs& a) { return {{DType::I32, product_shape(a)}}; }

// A window whose leading axes are broadcast to `batch`.
Shape batch_strides(const ConstView& v, size_t batch_rank, const Shape& batch) {
  Shape strides(batch_rank, 0);
  const size_t own = v.shape.size() - 2, lead = batch_rank - own;
  for (size_t i = 0; i < own; ++i) strides[lead + i] = v.shape[i] == batch[lead + i] ? v.strides[i] : 0;
  return strides;
}

void matmul_reference(const ReferenceArgs& args) {
  const ConstView &a = args.inputs[0], &b = args.inputs[1];
  const View& out = args.outputs[0];
  const Shape batch = batch_of(out.shape);
  const int64_t rows = out.shape[out.shape.size() - 2], columns = out.shape.back(), inner = a.shape.back();
  ElementCursor ca(batch, batch_strides(a, batch.size(), batch), a.offset);
  ElementCursor cb(batch, batch_strides(b, batch.size(), batch), b.offset);
  const int64_t a_row = a.strides[a.strides.size() - 2], a_col = a.strides.back();
  const int64_t b_row = b.strides[b.strides.size() - 2], b_col = b.strides.back();
  const bool real = is_float(out.dtype);
  int64_t o = out.offset;
  for (int64_t n = numel(batch); n > 0; --n, ca.next(), cb.next()) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j, ++o) {
        double sum = 0;
        uint64_t whole = 0;  // wraps
        for (int64_t k = 0; k < inner; ++k) {
          const int64_t ea = ca.element() + i * a_row + k * a_col, eb = cb.element() + k * b_row + j * b_col;
          if (real) {
            sum += load_real(a, ea) * load_real(b, eb);
          } else {
            whole += static_cast<uint64_t>(load_integer(a, ea)) * static_cast<uint64_t>(load_integer(b, eb));
          }
        }
        real ? store_real(out, o, sum) : store_integer(out, o, wrap_integer(out.dtype, static_cast<int64_t>(whole)));
      }
    }
  }
}

// Example ranks may differ; the batch axis must stay leftmost of all.
Tensors batch_matmul(const BatchArgs& a) {
  Tensors in(2);
  const int64_t rank = std::max(a.in[0].ndim() - (a.batched[0] ? 1 : 0), a.in[1].ndim() - (a.batched[1] ? 1 : 0));
  for (size_t i = 0; i < 2; ++i) {
    in[i] = a.in[i];
    if (!a.batched[i]) continue;
    Shape shape = in[i].shape();
    while (static_cast<int64_t>(shape.size()) < rank + 1) shape.insert(shape.begin() + 1, 1);
    in[i] = reshape(in[i], shape);
  }
  return {product(a.op, in[0], in[1])};
}

double product_flops(std::span<const TensorType> in, std::span<const TensorType> out, const ir::Attrs&) {
  return 2.0 * static_cast<double>(numel(out[0].shape)) * static_cast<double>(in[0].shape.back());
}
std::vector<Sample> product_samples() {
  return {{{{{2, 3}}, {{3, 4}}}},
          {{{{5, 2, 3}}, {{3, 4}}}},
          {{{{2, 1, 2, 3}}, {{3, 3, 2}}}},
          {{{{2, 0}}, {{0, 3}}}},
          {{{{1, 3}}, {{3, 1}}}}};
}
std::vector<InvalidSample> invalid_products() {
  return {{{{{2, 3}}, {{4, 3}}}, {}, "inner extents differ"},
          {{{{3}}, {{3, 2}}}, {}, "wrong rank"},
          {{{{2, 2, 3}}, {{3, 3, 2}}}, {}, "broadcast"}};
}

}  // namespace

const OpDef& matmul_op() {
  static const OpDef def{.name = "matmul",
                         .doc = "The matrix product of the last two axes; leading axes broadcast.",
                         .inputs = {{"a", kNumbers}, {"b", kNumbers}},
                         .promote = kPromoteAll,
                         .autocast = AutocastRule::Lower,
                         .infer = infer_matmul,
                         .meaning = Primitive{matmul_reference},
                         .gradient = Vjp{[](const VjpArgs& a) {
                                           Tensor da, db;
                                           if (a.needs[0])
                                             da = sum_to(matmul(a.ct[0], transpose(a.in[1])), a.in_types[0].shape);
                                           if (a.needs[1])
                                             db = sum_to(matmul(transpose(a.in[0]), a.ct[0]), a.in_types[1].shape);
                                           return Tensors{da, db};
                                         },
                                         bit(0) | bit(1), 0},
                         .batching = BatchRule{batch_matmul},
                         .samples = product_samples,
                         .invalid_samples = invalid_products,
                         .tolerance = {16, 1e-5},
                         .flops = product_flops};
  return def;
}

const OpDef& matmul_integer_op() {
  constexpr DTypeSet kBytes{DType::I8, DType::U8};
  static const OpDef def{.name = "matmul_integer",
                         .doc =
                             "The matrix product of the last two axes of 8-bit integers, each of the two with or "
                             "without a sign, added up in i32 modulo 2^32; leading axes broadcast.",
                         .inputs = {{"a", kBytes}, {"b", kBytes}},
                         .infer = infer_matmul_integer,
                         .meaning = Primitive{matmul_reference},
                         .gradient = NoGradient{"products of integers"},
                         .batching = BatchRule{batch_matmul},
                         .samples = product_samples,
                         .invalid_samples = invalid_products,
                         .flops = product_flops};
  return def;
}

std::vector<const OpDef*> matmul_ops() { return {&matmul_op(), &matmul_integer_op()}; }

}  // namespace ops

Tensor matmul(Tensor a, Tensor b) { return product(ops::matmul_op(), std::move(a), std::move(b)); }
Tensor matmul_integer(Tensor a, Tensor b) { return product(ops::matmul_integer_op(), std::move(a), std::move(b)); }

Tensor outer(Tensor a, Tensor b) {
  return unsqueeze(flatten(std::move(a)), {1}) * unsqueeze(flatten(std::move(b)), {0});
}

Tensor dot(Tensor a, Tensor b) {
  if (a.ndim() != 1 || b.ndim() != 1 || a.size() != b.size())
    throw ShapeError({"dot", "the inputs are not vectors of one length", "[n] and [n]",
                      fmt::format("{} and {}", to_string(a.shape()), to_string(b.shape())), "matmul(a, b)"});
  return matmul(std::move(a), std::move(b));
}

}  // namespace tenon
