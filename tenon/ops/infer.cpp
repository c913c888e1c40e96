#include "tenon/ops/infer.h"

#include <fmt/format.h>

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/tensor/element.h"

namespace tenon::ops {

bool has_infer(const OpDef& op) {
  return op.infer != nullptr || std::holds_alternative<Elementwise>(op.meaning) ||
         std::holds_alternative<Reduction>(op.meaning);
}

std::vector<TensorType> infer_types(const InferArgs& args) {
  if (args.op.infer) return args.op.infer(args);
  if (std::holds_alternative<Elementwise>(args.op.meaning)) return infer_elementwise(args);
  if (std::holds_alternative<Reduction>(args.op.meaning)) return infer_reduction(args);
  throw InternalError(fmt::format("op {} has no shape rule", args.op.name));
}

std::vector<TensorType> infer_elementwise(const InferArgs& args) {
  Shape shape = args.in[0].shape;
  for (size_t i = 1; i < args.in.size(); ++i) {
    if (args.in[i].shape != shape) shape = broadcast_shapes(args.op.name, shape, args.in[i].shape);
  }
  const auto& rule = std::get<Elementwise>(args.op.meaning);
  DType dtype = args.in[0].dtype;
  if (rule.result) {
    InlineVector<DType, 8> dtypes;
    for (const auto& t : args.in) dtypes.push_back(t.dtype);
    dtype = rule.result(dtypes, args.attrs);
  }
  return {{dtype, shape}};
}

Ints reduction_axes(std::string_view where, const Ints& axes, int64_t rank) {
  Ints result = normalize_axes(where, axes, rank);
  if (result.empty()) {
    for (int64_t i = 0; i < rank; ++i) result.push_back(i);
  }
  std::sort(result.begin(), result.end());
  return result;
}

Shape reduced_shape(const Shape& shape, const Ints& axes, bool keepdims) {
  Shape result;
  for (size_t i = 0; i < shape.size(); ++i) {
    const bool gone = axes.empty() || std::find(axes.begin(), axes.end(), static_cast<int64_t>(i)) != axes.end();
    if (!gone) {
      result.push_back(shape[i]);
    } else if (keepdims) {
      result.push_back(1);
    }
  }
  return result;
}

namespace {

DType reduced_dtype(ReduceKind kind, DType in) {
  switch (kind) {
    case ReduceKind::Sum:
    case ReduceKind::Prod:
      if (is_float(in)) return in;
      return info(in).kind == DTypeKind::Unsigned ? DType::U64 : DType::I64;
    case ReduceKind::Max:
    case ReduceKind::Min:
      return in;
    case ReduceKind::Any:
    case ReduceKind::All:
      return DType::Bool;
    case ReduceKind::ArgMax:
    case ReduceKind::ArgMin:
      return DType::I64;
  }
  throw InternalError("unknown reduction");
}

bool has_identity(ReduceKind kind) {
  return kind == ReduceKind::Sum || kind == ReduceKind::Prod || kind == ReduceKind::Any || kind == ReduceKind::All;
}

}  // namespace

std::vector<TensorType> infer_reduction(const InferArgs& args) {
  const auto kind = std::get<Reduction>(args.op.meaning).kind;
  const TensorType& in = args.in[0];
  const Ints axes = reduction_axes(args.op.name, args.attrs.ints(0), static_cast<int64_t>(in.shape.size()));
  if (!has_identity(kind)) {
    for (int64_t axis : axes) {
      if (in.shape[static_cast<size_t>(axis)] == 0)
        fail_shape(args, fmt::format("axis {} is empty and {} of nothing is not defined", axis, args.op.name),
                   "at least one element", to_string(in.shape));
    }
  }
  return {{reduced_dtype(kind, in.dtype), reduced_shape(in.shape, axes, args.attrs.flag(1))}};
}

std::vector<TensorType> infer_same(const InferArgs& args) { return {args.in[0]}; }

ir::ScalarProgram build_program(const OpDef& op, std::span<const DType> in, const ir::Attrs& attrs, DType result) {
  ir::ScalarBuilder builder;
  std::vector<ir::Scalar> inputs;
  inputs.reserve(in.size());
  for (DType t : in) inputs.push_back(builder.input(t));
  return builder.finish(std::get<Elementwise>(op.meaning).expression(inputs, attrs), result);
}

const Shape& shape_of(const InferArgs& a, size_t i) { return a.in[i].shape; }

void expect_countable(const InferArgs& a, const Shape& shape) {
  constexpr int64_t kMost = int64_t{1} << 46;
  int64_t n = 1;
  for (int64_t extent : shape) {
    if (__builtin_mul_overflow(n, std::max<int64_t>(extent, 1), &n) || n > kMost)
      fail_shape(a, "more elements than fit in any memory", {}, to_string(shape));
  }
}

void expect_rank(const InferArgs& a, size_t i, size_t low, size_t high) {
  const size_t rank = a.in[i].shape.size();
  if (rank >= low && rank <= high) return;
  const std::string want = low == high  ? fmt::format("{} axes", low)
                           : high >= 64 ? fmt::format("at least {} axes", low)
                                        : fmt::format("{} to {} axes", low, high);
  const size_t arg = std::min(i, a.op.inputs.size() - 1);
  fail_shape(a, fmt::format("input '{}' has the wrong rank", a.op.inputs[arg].name), want,
             fmt::format("{}, {} axes", to_string(a.in[i].shape), rank));
}

void fail_shape(const InferArgs& a, std::string problem, std::string expected, std::string got, std::string hint) {
  throw ShapeError({std::string(a.op.name), std::move(problem), std::move(expected), std::move(got), std::move(hint)});
}
void fail_value(const InferArgs& a, std::string problem, std::string expected, std::string got, std::string hint) {
  throw ValueError({std::string(a.op.name), std::move(problem), std::move(expected), std::move(got), std::move(hint)});
}

int64_t checked_index(std::string_view op, const ConstView& indices, int64_t element, const Shape& shape, size_t axis) {
  const int64_t i = load_integer(indices, element), extent = shape[axis];
  if (i < -extent || i >= extent)
    throw IndexError({std::string(op),
                      fmt::format("index out of range on axis {}", axis),
                      extent == 0 ? "no index at all, the axis is empty" : fmt::format("{} to {}", -extent, extent - 1),
                      std::to_string(i),
                      {}});
  return i < 0 ? i + extent : i;
}

}  // namespace tenon::ops
