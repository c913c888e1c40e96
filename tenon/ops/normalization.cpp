#include "tenon/ops/normalization.h"

#include <fmt/format.h>

#include "tenon/base/error.h"
#include "tenon/ops/broadcast.h"
#include "tenon/ops/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"

namespace tenon {
namespace ops {
namespace {

const std::vector<AttrSpec> kAttrs{{"axes", 1, ir::AttrType::IntList, "axes over which the statistics are taken"},
                                   {"epsilon", 2, ir::AttrType::Real, "added to the variance"},
                                   {"center", 3, ir::AttrType::Flag, "whether the mean is subtracted"}};

Ints axes_of(const ir::Attrs& attrs, int64_t rank) { return reduction_axes("normalize", attrs.ints(0), rank); }

void check_affine(const InferArgs& a, size_t i) {
  if (i < a.in.size() && a.present[i] && broadcast_shapes(a.op.name, a.in[0].shape, a.in[i].shape) != a.in[0].shape)
    fail_shape(a, fmt::format("'{}' does not broadcast to x", a.op.inputs[i].name), to_string(a.in[0].shape),
               to_string(a.in[i].shape));
}

std::vector<TensorType> infer_normalize(const InferArgs& a) {
  check_affine(a, 1);
  check_affine(a, 2);
  const Ints axes = axes_of(a.attrs, static_cast<int64_t>(a.in[0].shape.size()));
  const TensorType statistic{a.in[0].dtype, reduced_shape(a.in[0].shape, axes, true)};
  return {a.in[0], statistic, statistic};
}

Tensors normalize_body(std::span<const Tensor> in, const ir::Attrs& attrs) {
  const Tensor& x = in[0];
  const Ints axes = axes_of(attrs, x.ndim());
  const Tensor mu = attrs.flag(2) ? mean(x, axes, true) : zeros(reduced_shape(x.shape(), axes, true), x.dtype());
  const Tensor centred = attrs.flag(2) ? x - mu : x;
  const Tensor rstd = rsqrt(mean(square(centred), axes, true) + attrs.real(1));
  Tensor y = centred * rstd;
  if (in.size() > 1 && in[1].defined()) y = std::move(y) * in[1];
  if (in.size() > 2 && in[2].defined()) y = std::move(y) + in[2];
  return {y, mu, rstd};
}

std::vector<TensorType> infer_normalize_grad(const InferArgs& a) {
  const bool affine = a.in.size() > 4 && a.present[4];
  const TensorType parameter = affine ? a.in[4] : TensorType{a.in[1].dtype, {}};
  return {a.in[1], parameter, parameter};
}

Tensors normalize_grad_body(std::span<const Tensor> in, const ir::Attrs& attrs) {
  const Tensor &ct = in[0], &x = in[1], &mu = in[2], &rstd = in[3];
  const bool affine = in.size() > 4 && in[4].defined();
  const Ints axes = axes_of(attrs, x.ndim());
  const Tensor normal = (attrs.flag(2) ? x - mu : x) * rstd;
  const Tensor g = affine ? ct * in[4] : ct;
  Tensor dx = g - normal * mean(g * normal, axes, true);
  if (attrs.flag(2)) dx = std::move(dx) - mean(g, axes, true);
  const Shape parameter = affine ? in[4].shape() : Shape{};
  return {std::move(dx) * rstd, sum_to(ct * normal, parameter), sum_to(ct, parameter)};
}

}  // namespace

const OpDef& normalize_grad_op() {
  static const OpDef def{
      .name = "normalize_grad",
      .doc = "Cotangents of x, weight and bias of `normalize` from that of y; mean and rstd are its other results.",
      .inputs = {{"ct", kFloats},
                 {"x", kFloats},
                 {"mean", kFloats},
                 {"rstd", kFloats},
                 {"weight", kFloats, ArgKind::Optional}},
      .attrs = kAttrs,
      .results = 3,
      .infer = infer_normalize_grad,
      .meaning = Composite{normalize_grad_body},
      .gradient = GradientOfBody{},
      .batching = BatchBody{},
      .samples =
          [] {
            return std::vector<Sample>{
                {{{{2, 3}}, {{2, 3}}, {{2, 1}, -0.5, 0.5}, {{2, 1}, 0.5, 1}, {{3}, 0.5, 1.5}}, {Ints{1}, 1e-5, true}}};
          },
      .tolerance = {64, 1e-5}};
  return def;
}

namespace {

// The usual way back is one op; what comes in through mean and rstd (a derivative of the first derivative) is composed.
Tensors normalize_vjp(const VjpArgs& a) {
  const Tensor &x = a.in[0], &mean_of_x = a.out[1], &rstd = a.out[2];
  Tensors result(a.in.size());
  if (a.ct[0].defined()) {
    const Tensors g = call(normalize_grad_op(), {a.ct[0], x, mean_of_x, rstd, a.in[1]}, a.attrs);
    result[0] = g[0];
    if (a.needs[1]) result[1] = g[1];
    if (a.needs[2]) result[2] = a.in[1].defined() ? g[2] : sum_to(a.ct[0], a.in_types[2].shape);
  }
  const auto count = static_cast<double>(x.size()) / static_cast<double>(std::max<int64_t>(rstd.size(), 1));
  const auto add_to_x = [&](const Tensor& g) { result[0] = result[0].defined() ? result[0] + g : g; };
  const bool center = a.attrs.flag(2);
  if (a.ct[1].defined() && center) add_to_x(expand(a.ct[1] / count, x.shape()));
  if (a.ct[2].defined()) {
    const Tensor distance = center ? x - mean_of_x : x;
    add_to_x(-(a.ct[2] * rstd * rstd * rstd / count) * distance);
  }
  return result;
}

}  // namespace

const OpDef& normalize_op() {
  static const OpDef def{
      .name = "normalize",
      .doc =
          "(x - mean) * rstd * weight + bias, with mean and rstd = 1 / sqrt(variance + epsilon) over `axes`; without "
          "`center` "
          "the mean counts as 0. Results y, mean, rstd.",
      .inputs = {{"x", kFloats}, {"weight", kFloats, ArgKind::Optional}, {"bias", kFloats, ArgKind::Optional}},
      .attrs = kAttrs,
      .results = 3,
      .promote = kPromoteToFloat,
      .autocast = AutocastRule::Full,
      .infer = infer_normalize,
      .meaning = Composite{normalize_body},
      .gradient = Vjp{[](const VjpArgs& a) { return normalize_vjp(a); }, bit(0) | bit(1), bit(1) | bit(2)},
      .batching = BatchBody{},
      .samples =
          [] {
            return std::vector<Sample>{
                {{{{2, 5}}, {{5}, 0.5, 1.5}, {{5}}}, {Ints{1}, 1e-5, true}},
                {{{{3, 2, 4}}, {{2, 1}, 0.5, 1.5}, {{2, 1}}}, {Ints{0, 2}, 1e-5, true}},
                {{{{2, 5}}, {{5}, 0.5, 1.5}, {.shape = {}, .absent = true}}, {Ints{1}, 1e-6, false}}};
          },
      .invalid_samples =
          [] { return std::vector<InvalidSample>{{{{{2, 5}}, {{4}}, {{4}}}, {Ints{1}, 1e-5, true}, "broadcast"}}; },
      .tolerance = {64, 1e-5}};
  return def;
}

std::vector<const OpDef*> normalization_ops() { return {&normalize_op(), &normalize_grad_op()}; }

}  // namespace ops

namespace {

Tensors normalize(Tensor x, Tensor weight, Tensor bias, const Ints& axes, double epsilon, bool center) {
  return ops::call(ops::normalize_op(), {std::move(x), std::move(weight), std::move(bias)}, {axes, epsilon, center});
}

// [C] -> [C, 1, …], which broadcasts against [N, C, …].
Tensor per_channel(const Tensor& p, int64_t rank) {
  if (!p.defined()) return p;
  Shape shape{p.size()};
  for (int64_t i = 2; i < rank; ++i) shape.push_back(1);
  return reshape(p, shape);
}

void expect_channels(const char* where, const Tensor& x) {
  if (x.ndim() < 2) throw ShapeError({where, "the input has no channel axis", "[N, C, …]", to_string(x.shape()), {}});
}

Ints all_but_channels(int64_t rank) {
  Ints axes{0};
  for (int64_t i = 2; i < rank; ++i) axes.push_back(i);
  return axes;
}

void expect_fits_last_axes(const char* where, const char* what, const Tensor& parameter, const Tensor& x,
                           int64_t count) {
  if (!parameter.defined()) return;
  const Shape last(x.shape().end() - count, x.shape().end());
  if (!broadcasts_to(parameter.shape(), x.shape()))
    throw ShapeError({where,
                      fmt::format("the {} does not fit the last axes of the input", what),
                      to_string(last),
                      to_string(parameter.shape()),
                      {}});
}

}  // namespace

Tensor layer_norm(Tensor x, Tensor weight, Tensor bias, double epsilon) {
  const int64_t count = weight.defined() ? weight.ndim() : 1;
  if (count > x.ndim() || x.ndim() == 0)
    throw ShapeError({"layer_norm",
                      "the weight has more axes than the input",
                      "at most " + std::to_string(x.ndim()),
                      std::to_string(count),
                      {}});
  expect_fits_last_axes("layer_norm", "weight", weight, x, count);
  expect_fits_last_axes("layer_norm", "bias", bias, x, count);
  Ints axes;
  for (int64_t i = x.ndim() - count; i < x.ndim(); ++i) axes.push_back(i);
  return normalize(std::move(x), std::move(weight), std::move(bias), axes, epsilon, true)[0];
}

Tensor rms_norm(Tensor x, Tensor weight, double epsilon) {
  if (x.ndim() == 0) throw ShapeError({"rms_norm", "the input has no axis to normalise", "[…, n]", "[]", {}});
  expect_fits_last_axes("rms_norm", "weight", weight, x, 1);
  return normalize(std::move(x), std::move(weight), {}, {-1}, epsilon, false)[0];
}

Tensor group_norm(Tensor x, int64_t groups, Tensor weight, Tensor bias, double epsilon) {
  expect_channels("group_norm", x);
  const int64_t channels = x.shape(1);
  if (groups < 1 || channels % groups != 0)
    throw ValueError({"group_norm",
                      "the channels do not divide into the groups",
                      fmt::format("a divisor of {}", channels),
                      std::to_string(groups),
                      {}});
  const Shape shape = x.shape();
  const int64_t rank = x.ndim();
  Tensor y = reshape(normalize(reshape(std::move(x), {shape[0], groups, -1}), {}, {}, {2}, epsilon, true)[0], shape);
  if (weight.defined()) y = std::move(y) * per_channel(weight, rank);
  if (bias.defined()) y = std::move(y) + per_channel(bias, rank);
  return y;
}

Tensor instance_norm(Tensor x, Tensor weight, Tensor bias, double epsilon) {
  expect_channels("instance_norm", x);
  const int64_t channels = x.shape(1);
  return group_norm(std::move(x), channels, std::move(weight), std::move(bias), epsilon);
}

namespace {

// What is computed with wide statistics and parameters goes on as short as it came.
Tensor as_short_as(DType given, Tensor y) {
  const bool is_short = given == DType::F16 || given == DType::BF16;
  return is_short && y.dtype() == DType::F32 ? cast(std::move(y), given) : y;
}

}  // namespace

BatchNormResult batch_norm_train(Tensor x, Tensor weight, Tensor bias, double epsilon) {
  expect_channels("batch_norm", x);
  const int64_t rank = x.ndim(), channels = x.shape(1);
  const DType dtype = x.dtype();
  Tensors r = normalize(std::move(x), per_channel(weight, rank), per_channel(bias, rank), all_but_channels(rank),
                        epsilon, true);
  const Tensor mean = reshape(r[1].detach(), {channels}), rstd = reshape(r[2].detach(), {channels});
  return {as_short_as(dtype, std::move(r[0])), mean, reciprocal(square(rstd)) - epsilon};
}

Tensor batch_norm_infer(Tensor x, Tensor mean, Tensor variance, Tensor weight, Tensor bias, double epsilon) {
  expect_channels("batch_norm", x);
  const int64_t rank = x.ndim();
  const DType dtype = x.dtype();
  Tensor scale = rsqrt(std::move(variance) + epsilon);
  if (weight.defined()) scale = std::move(scale) * weight;
  Tensor shift = -(mean * scale);
  if (bias.defined()) shift = std::move(shift) + bias;
  return as_short_as(dtype, std::move(x) * per_channel(scale, rank) + per_channel(shift, rank));
}

}  // namespace tenon
