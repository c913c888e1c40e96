#include "tenon/ops/creation.h"

#include <cmath>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/infer.h"
#include "tenon/tensor/element.h"
#include "tenon/tensor/number.h"

namespace tenon {
namespace ops {
namespace {

void check_shape(const InferArgs& a, const Shape& shape) {
  for (int64_t d : shape) {
    if (d < 0) fail_shape(a, "a shape has a negative extent", "extents of 0 or more", to_string(shape));
  }
}

std::vector<Sample> creation_samples(std::vector<ir::Attrs> attrs) {
  std::vector<Sample> samples;
  for (auto& a : attrs) samples.push_back({{}, std::move(a)});
  return samples;
}

}  // namespace

const OpDef& full_op() {
  static const OpDef def{
      .name = "full",
      .doc = "A tensor of one value.",
      .inputs = {},
      .attrs = {{"shape", 1, ir::AttrType::IntList},
                {"value", 2, ir::AttrType::Real},
                {"dtype", 3, ir::AttrType::Dtype}},
      .infer =
          [](const InferArgs& a) {
            check_shape(a, a.attrs.ints(0));
            return std::vector<TensorType>{{a.attrs.dtype(2), a.attrs.ints(0)}};
          },
      .meaning = Primitive{[](const ReferenceArgs& a) {
        const View& out = a.outputs[0];
        for (int64_t i = 0, n = numel(out.shape); i < n; ++i) store_real(out, i, a.attrs.real(1));
      }},
      .gradient = NoGradient{"it has no inputs"},
      .batching = NoBatching{"it has no inputs"},
      .samples =
          [] {
            return creation_samples(
                {{Ints{2, 3}, 1.5, DType::F32}, {Ints{}, 3.0, DType::I64}, {Ints{0, 2}, 1.0, DType::F64}});
          },
      .invalid_samples =
          [] { return std::vector<InvalidSample>{{{}, {Ints{2, -3}, 0.0, DType::F32}, "negative extent"}}; }};
  return def;
}

const OpDef& iota_op() {
  static const OpDef def{
      .name = "iota",
      .doc = "The position along one axis, at every element.",
      .inputs = {},
      .attrs = {{"shape", 1, ir::AttrType::IntList}, {"axis", 2, ir::AttrType::Int}, {"dtype", 3, ir::AttrType::Dtype}},
      .infer =
          [](const InferArgs& a) {
            check_shape(a, a.attrs.ints(0));
            normalize_axis(a.op.name, a.attrs.integer(1), static_cast<int64_t>(a.attrs.ints(0).size()));
            return std::vector<TensorType>{{a.attrs.dtype(2), a.attrs.ints(0)}};
          },
      .meaning = Primitive{[](const ReferenceArgs& a) {
        const View& out = a.outputs[0];
        const auto rank = static_cast<int64_t>(out.shape.size());
        const int64_t axis = normalize_axis("iota", a.attrs.integer(1), rank);
        int64_t inner = 1;
        for (int64_t k = axis + 1; k < rank; ++k) inner *= out.shape[static_cast<size_t>(k)];
        const int64_t extent = out.shape[static_cast<size_t>(axis)];
        for (int64_t i = 0, n = numel(out.shape); i < n; ++i) store_integer(out, i, i / inner % extent);
      }},
      .gradient = NoGradient{"it has no inputs"},
      .batching = NoBatching{"it has no inputs"},
      .samples =
          [] { return creation_samples({{Ints{2, 3}, int64_t{1}, DType::I64}, {Ints{2, 3}, int64_t{0}, DType::F32}}); },
      .invalid_samples = [] { return std::vector<InvalidSample>{{{}, {Ints{2}, int64_t{1}, DType::I64}, "axis"}}; }};
  return def;
}

std::vector<const OpDef*> creation_ops() { return {&full_op(), &iota_op()}; }

}  // namespace ops

using ops::call1;

namespace {

Tensor filled(const char* where, const Shape& shape, double value, DType dtype) {
  for (int64_t d : shape) {
    if (d < 0) throw ShapeError({where, "a shape has a negative extent", "extents of 0 or more", to_string(shape), {}});
  }
  expect_real_fits(where, value, dtype);
  return call1(ops::full_op(), {}, {shape, value, dtype});
}

}  // namespace

Tensor full(const Shape& shape, double value, DType dtype) { return filled("full", shape, value, dtype); }
Tensor zeros(const Shape& shape, DType dtype) { return filled("zeros", shape, 0, dtype); }
Tensor ones(const Shape& shape, DType dtype) { return filled("ones", shape, 1, dtype); }
Tensor zeros_like(const Tensor& x) { return full(x.shape(), 0, x.dtype()); }
Tensor ones_like(const Tensor& x) { return full(x.shape(), 1, x.dtype()); }
Tensor full_like(const Tensor& x, double value) { return full(x.shape(), value, x.dtype()); }
Tensor iota(const Shape& shape, int64_t axis, DType dtype) { return call1(ops::iota_op(), {}, {shape, axis, dtype}); }

Tensor arange(int64_t stop) { return arange(0, stop); }
Tensor arange(int64_t start, int64_t stop, int64_t step, DType dtype) {
  if (step == 0) throw ValueError({"arange", "the step is 0", "a step that leads from start to stop", "0", {}});
  const int64_t count = step > 0 ? (stop - start + step - 1) / step : (start - stop - step - 1) / -step;
  Tensor x = iota({count > 0 ? count : 0}, 0, DType::I64);
  if (step != 1) x = std::move(x) * step;
  if (start != 0) x = std::move(x) + start;
  return cast(std::move(x), dtype);
}
Tensor arange(double start, double stop, double step, DType dtype) {
  if (step == 0) throw ValueError({"arange", "the step is 0", "a step that leads from start to stop", "0", {}});
  const double count = std::ceil((stop - start) / step);
  return cast(iota({count > 0 ? static_cast<int64_t>(count) : 0}, 0, DType::F64) * step + start, dtype);
}
Tensor linspace(double start, double stop, int64_t count, DType dtype) {
  if (count < 0) throw ValueError({"linspace", "a negative number of values", "0 or more", std::to_string(count), {}});
  if (count == 0) return zeros({0}, dtype);
  if (count == 1) return full({1}, start, dtype);
  // Whole steps from the nearer end, as PyTorch counts them: both ends are exact, and so is a zero between them.
  const auto steps = static_cast<double>(count - 1);
  const double step = std::isinf(stop - start) ? stop / steps - start / steps : (stop - start) / steps;
  const Tensor i = iota({count}, 0, DType::F64);
  const int64_t half = count / 2;
  return cast(where(i < static_cast<double>(half), start + step * i, stop - step * (steps - i)), dtype);
}
Tensor eye(int64_t rows, int64_t columns, DType dtype) {
  if (rows < 0 || columns < -1)
    throw ValueError({"eye",
                      "a negative number of rows or columns",
                      "0 or more (columns: -1 for as many as rows)",
                      std::to_string(rows < 0 ? rows : columns),
                      {}});
  const Shape shape{rows, columns < 0 ? rows : columns};
  return cast(equal(iota(shape, 0), iota(shape, 1)), dtype);
}

}  // namespace tenon
