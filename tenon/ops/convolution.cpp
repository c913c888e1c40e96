// conv, its two transposes, and the convolution of 8-bit integers. The first three are sums of products over the same
// taps (ops/window.h), each bilinear in two of {x, weight, result}, so the gradient of each is made of the other two
// and derivatives of any order exist.
#include "tenon/ops/convolution.h"

#include <fmt/format.h>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"
#include "tenon/ops/window.h"
#include "tenon/tensor/element.h"

namespace tenon {
namespace ops {
namespace {

enum Attr : uint8_t { kStrides, kLow, kHigh, kDilations, kGroups, kExtents };

std::vector<AttrSpec> conv_attrs() {
  return {{"strides", 1, ir::AttrType::IntList},
          {"padding_low", 2, ir::AttrType::IntList, "zeros before each spatial axis; negative cuts"},
          {"padding_high", 3, ir::AttrType::IntList, "zeros after it"},
          {"dilations", 4, ir::AttrType::IntList, "distance of the taps"},
          {"groups", 5, ir::AttrType::Int}};
}
std::vector<AttrSpec> gradient_attrs(std::string_view name) {
  auto specs = conv_attrs();
  specs.push_back({name, 6, ir::AttrType::IntList, "spatial extents of the result"});
  return specs;
}

void check_attrs(const InferArgs& a, size_t rank) {
  check_window_attr(a, kStrides, rank, 1);
  check_window_attr(a, kLow, rank, INT64_MIN);
  check_window_attr(a, kHigh, rank, INT64_MIN);
  check_window_attr(a, kDilations, rank, 1);
  if (a.attrs.integer(kGroups) < 1)
    fail_value(a, "'groups' is too small", "at least 1", std::to_string(a.attrs.integer(kGroups)));
}

// The shape of conv(x, weight): the one place where the three ops' shapes are checked.
Shape conv_shape(const InferArgs& a, const Shape& x, const Shape& weight) {
  const int64_t groups = a.attrs.integer(kGroups);
  if (weight.size() != x.size())
    fail_shape(a, "the weight has another number of axes than x", fmt::format("{} axes", x.size()), to_string(weight),
               "weight is [O, C / groups, window…]");
  if (x[1] != weight[1] * groups)
    fail_shape(a, fmt::format("the channels of x do not fit the weight in {} group(s)", groups),
               fmt::format("{} channels", weight[1] * groups),
               fmt::format("{} (x {}, weight {})", x[1], to_string(x), to_string(weight)));
  if (weight[0] % groups != 0)
    fail_shape(a, fmt::format("the output channels do not fall into {} groups", groups),
               fmt::format("a multiple of {}", groups), std::to_string(weight[0]));
  Shape out{x[0], weight[0]};
  for (size_t i = 2; i < x.size(); ++i) {
    const size_t k = i - 2;
    if (weight[i] < 1) fail_shape(a, fmt::format("the window is empty on spatial axis {}", k), "at least 1", "0");
    const int64_t count = window_count(x[i], weight[i], a.attrs.ints(kStrides)[k], a.attrs.ints(kLow)[k],
                                       a.attrs.ints(kHigh)[k], a.attrs.ints(kDilations)[k]);
    if (count < 1)
      fail_shape(a, fmt::format("the window is larger than the padded input on spatial axis {}", k),
                 fmt::format("an extent of at least {}", a.attrs.ints(kDilations)[k] * (weight[i] - 1) + 1),
                 std::to_string(x[i] + a.attrs.ints(kLow)[k] + a.attrs.ints(kHigh)[k]), "more padding");
    out.push_back(count);
  }
  return out;
}

std::vector<TensorType> infer_conv(const InferArgs& a) {
  expect_rank(a, 0, 3, 5);
  check_attrs(a, a.in[0].shape.size() - 2);
  const Shape out = conv_shape(a, a.in[0].shape, a.in[1].shape);
  if (a.present[2] && a.in[2].shape != Shape{out[1]})
    fail_shape(a, "the bias does not fit the output channels", to_string(Shape{out[1]}), to_string(a.in[2].shape));
  return {{a.in[0].dtype, out}};
}

std::vector<TensorType> infer_integer(const InferArgs& a) {
  expect_rank(a, 0, 3, 5);
  check_attrs(a, a.in[0].shape.size() - 2);
  const Shape out = conv_shape(a, a.in[0].shape, a.in[1].shape);
  const auto check = [&](size_t zero, size_t of) {
    if (!a.present[zero]) return;
    if (a.in[zero].dtype != a.in[of].dtype)
      throw DTypeError({std::string(a.op.name),
                        fmt::format("'{}' has another dtype than '{}'", a.op.inputs[zero].name, a.op.inputs[of].name),
                        std::string(name(a.in[of].dtype)),
                        std::string(name(a.in[zero].dtype)),
                        {}});
    const Shape& shape = a.in[zero].shape;
    const bool many = of == 1 && shape == Shape{out[1]};
    if (!shape.empty() && !many)
      fail_shape(a, fmt::format("'{}' does not fit", a.op.inputs[zero].name),
                 of == 1 ? fmt::format("one number, or {}", to_string(Shape{out[1]})) : "one number", to_string(shape));
  };
  check(2, 0);
  check(3, 1);
  return {{DType::I32, out}};
}

void check_cotangent(const InferArgs& a, const Shape& out, const Shape& ct) {
  if (out != ct) fail_shape(a, "ct is not of the shape of the convolution's result", to_string(out), to_string(ct));
}

std::vector<TensorType> infer_input_gradient(const InferArgs& a) {
  expect_rank(a, 0, 3, 5);
  const Shape &ct = a.in[0].shape, &weight = a.in[1].shape;
  check_attrs(a, ct.size() - 2);
  check_window_attr(a, kExtents, ct.size() - 2, 0);
  if (weight.size() != ct.size())
    fail_shape(a, "the weight has another number of axes than ct", fmt::format("{} axes", ct.size()),
               to_string(weight));
  const Shape x = with_channels(ct[0], weight[1] * a.attrs.integer(kGroups), a.attrs.ints(kExtents));
  check_cotangent(a, conv_shape(a, x, weight), ct);
  return {{a.in[0].dtype, x}};
}

std::vector<TensorType> infer_weight_gradient(const InferArgs& a) {
  expect_rank(a, 0, 3, 5);
  const Shape &x = a.in[0].shape, &ct = a.in[1].shape;
  check_attrs(a, x.size() - 2);
  check_window_attr(a, kExtents, x.size() - 2, 1);
  if (ct.size() != x.size())
    fail_shape(a, "ct has another number of axes than x", fmt::format("{} axes", x.size()), to_string(ct));
  const int64_t groups = a.attrs.integer(kGroups);
  const Shape weight = with_channels(ct[1], x[1] / groups, a.attrs.ints(kExtents));
  check_cotangent(a, conv_shape(a, x, weight), ct);
  return {{a.in[0].dtype, weight}};
}

// f(element of the result, of x, of the weight) for every product in the sum.
template <class F>
void for_each_product(const Shape& x, const Shape& weight, const Shape& out, const ir::Attrs& attrs, F&& f) {
  const Windows w = make_windows(spatial(x), spatial(out), spatial(weight), attrs.ints(kStrides), attrs.ints(kLow),
                                 attrs.ints(kDilations));
  const int64_t groups = attrs.integer(kGroups), in_group = weight[1], out_group = weight[0] / groups;
  const int64_t x_plane = numel(spatial(x)), w_plane = numel(spatial(weight)), out_plane = numel(spatial(out));
  for (int64_t n = 0; n < out[0]; ++n) {
    for (int64_t o = 0; o < out[1]; ++o) {
      for (int64_t c = 0; c < in_group; ++c) {
        const int64_t to = (n * out[1] + o) * out_plane;
        const int64_t from = (n * x[1] + o / out_group * in_group + c) * x_plane;
        const int64_t tap0 = (o * in_group + c) * w_plane;
        for_each_tap(w, [&](int64_t position, int64_t tap, int64_t element) {
          f(static_cast<size_t>(to + position), static_cast<size_t>(from + element), static_cast<size_t>(tap0 + tap));
        });
      }
    }
  }
}

void conv_reference(const ReferenceArgs& a) {
  const auto x = to_reals(a.inputs[0]), weight = to_reals(a.inputs[1]);
  const Shape& shape = a.outputs[0].shape;
  std::vector<double> out(static_cast<size_t>(numel(shape)), 0);
  if (a.inputs[2].data) {
    const auto bias = to_reals(a.inputs[2]);
    const auto plane = static_cast<size_t>(numel(spatial(shape)));
    for (size_t i = 0; i < out.size(); ++i) out[i] = bias[i / plane % bias.size()];
  }
  for_each_product(a.inputs[0].shape, a.inputs[1].shape, shape, a.attrs,
                   [&](size_t o, size_t i, size_t k) { out[o] += x[i] * weight[k]; });
  store_reals(out, a.outputs[0]);
}

void integer_reference(const ReferenceArgs& a) {
  const auto numbers = [](const ConstView& from) {
    std::vector<int64_t> list(static_cast<size_t>(numel(from.shape)));
    ElementCursor cursor(from);
    for (int64_t& v : list) {
      v = load_integer(from, cursor.element());
      cursor.next();
    }
    return list;
  };
  auto x = numbers(a.inputs[0]), weight = numbers(a.inputs[1]);
  if (a.inputs[2].data != nullptr) {
    const int64_t zero = numbers(a.inputs[2])[0];
    for (int64_t& v : x) v -= zero;
  }
  if (a.inputs[3].data != nullptr) {
    const auto zeros = numbers(a.inputs[3]);
    const size_t seen = weight.empty() ? 1 : weight.size() / static_cast<size_t>(a.inputs[1].shape[0]);
    for (size_t i = 0; i < weight.size(); ++i) weight[i] -= zeros[zeros.size() == 1 ? 0 : i / seen];
  }
  const View& y = a.outputs[0];
  std::vector<uint64_t> out(static_cast<size_t>(numel(y.shape)), 0);  // wraps
  for_each_product(a.inputs[0].shape, a.inputs[1].shape, y.shape, a.attrs, [&](size_t o, size_t i, size_t k) {
    out[o] += static_cast<uint64_t>(x[i]) * static_cast<uint64_t>(weight[k]);
  });
  ElementCursor cursor(y);
  for (const uint64_t v : out) {
    store_integer(y, cursor.element(), wrap_integer(DType::I32, static_cast<int64_t>(v)));
    cursor.next();
  }
}

void input_gradient_reference(const ReferenceArgs& a) {
  const auto ct = to_reals(a.inputs[0]), weight = to_reals(a.inputs[1]);
  std::vector<double> dx(static_cast<size_t>(numel(a.outputs[0].shape)), 0);
  for_each_product(a.outputs[0].shape, a.inputs[1].shape, a.inputs[0].shape, a.attrs,
                   [&](size_t o, size_t i, size_t k) { dx[i] += ct[o] * weight[k]; });
  store_reals(dx, a.outputs[0]);
}

void weight_gradient_reference(const ReferenceArgs& a) {
  const auto x = to_reals(a.inputs[0]), ct = to_reals(a.inputs[1]);
  std::vector<double> dw(static_cast<size_t>(numel(a.outputs[0].shape)), 0);
  for_each_product(a.inputs[0].shape, a.outputs[0].shape, a.inputs[1].shape, a.attrs,
                   [&](size_t o, size_t i, size_t k) { dw[k] += x[i] * ct[o]; });
  store_reals(dw, a.outputs[0]);
}

// ---- the three, called by each other's gradients -------------------------------------------
ir::Attrs common(const ir::Attrs& a) { return {a[kStrides], a[kLow], a[kHigh], a[kDilations], a[kGroups]}; }
ir::Attrs with_extents(const ir::Attrs& a, const Ints& extents) {
  return {a[kStrides], a[kLow], a[kHigh], a[kDilations], a[kGroups], extents};
}
Tensor conv(const Tensor& x, const Tensor& weight, const ir::Attrs& attrs) {
  return call1(conv_op(), {x, weight, Tensor()}, common(attrs));
}
Tensor input_gradient(const Tensor& ct, const Tensor& weight, const ir::Attrs& attrs, const Shape& x) {
  return call1(conv_input_gradient_op(), {ct, weight}, with_extents(attrs, spatial(x)));
}
Tensor weight_gradient(const Tensor& x, const Tensor& ct, const ir::Attrs& attrs, const Shape& weight) {
  return call1(conv_weight_gradient_op(), {x, ct}, with_extents(attrs, spatial(weight)));
}

Tensors conv_vjp(const VjpArgs& a) {
  Tensor dx, dw, db;
  if (a.needs[0]) dx = input_gradient(a.ct[0], a.in[1], a.attrs, a.in_types[0].shape);
  if (a.needs[1]) dw = weight_gradient(a.in[0], a.ct[0], a.attrs, a.in_types[1].shape);
  if (a.needs[2]) {
    Ints axes{0};
    for (int64_t i = 2; i < a.ct[0].ndim(); ++i) axes.push_back(i);
    db = sum(a.ct[0], axes);
  }
  return {dx, dw, db};
}

// ---- batching ------------------------------------------------------------------------------
// [B, M, rest…] and [B * M, rest…], for a batch that lies before the axis it is merged with.
Tensor merge(const Tensor& x) {
  Shape shape{x.shape(0) * x.shape(1)};
  for (int64_t i = 2; i < x.ndim(); ++i) shape.push_back(x.shape(i));
  return reshape(x, shape);
}
Tensor unmerge(const Tensor& x, int64_t batch) {
  Shape shape{batch, x.shape(0) / batch};
  for (int64_t i = 1; i < x.ndim(); ++i) shape.push_back(x.shape(i));
  return reshape(x, shape);
}
// [B, N, C, …] as [N, B * C, …]: the examples' channels become groups of one input.
Tensor batch_to_channels(const Tensor& x, bool batched, int64_t size) {
  Shape shape = x.shape();
  if (!batched) shape.insert(shape.begin(), size);
  const Tensor y = moveaxis(expand(x, shape), 0, 1);
  Shape merged{y.shape(0), y.shape(1) * y.shape(2)};
  for (int64_t i = 3; i < y.ndim(); ++i) merged.push_back(y.shape(i));
  return reshape(y, merged);
}
Tensor channels_to_batch(const Tensor& x, int64_t batch) {
  Shape shape{x.shape(0), batch, x.shape(1) / batch};
  for (int64_t i = 2; i < x.ndim(); ++i) shape.push_back(x.shape(i));
  return moveaxis(reshape(x, shape), 1, 0);
}
ir::Attrs in_groups(const ir::Attrs& attrs, int64_t batch) {
  if (batch == 0)
    throw UnsupportedError({"conv", "vmap over an empty batch of weights leaves no group of channels", {}, {}, {}});
  ir::Attrs r = attrs;
  r[kGroups] = attrs.integer(kGroups) * batch;
  return r;
}

Tensors batch_conv(const BatchArgs& a) {
  Tensor y;
  if (!a.batched[1]) {
    y = a.batched[0] ? unmerge(conv(merge(a.in[0]), a.in[1], a.attrs), a.size) : conv(a.in[0], a.in[1], a.attrs);
  } else if (!a.batched[0] && a.attrs.integer(kGroups) == 1) {
    y = channels_to_batch(conv(a.in[0], merge(a.in[1]), a.attrs), a.size);
  } else {
    const Tensor x = batch_to_channels(a.in[0], a.batched[0], a.size);
    y = channels_to_batch(conv(x, merge(a.in[1]), in_groups(a.attrs, a.size)), a.size);
  }
  if (!a.in[2].defined()) return {y};
  // y is [B, N, O, …], or [N, O, …] if only the bias is batched.
  const bool whole = !a.batched[0] && !a.batched[1];
  Shape shape{a.batched[2] ? a.size : 1, 1, a.in[2].shape(-1)};
  for (int64_t i = whole ? 2 : 3; i < y.ndim(); ++i) shape.push_back(1);
  return {y + reshape(a.in[2], shape)};
}

// Examples side by side where only x differs; else one after the other: a zero point is for all of x.
Tensors batch_integer(const BatchArgs& a) {
  if (!a.batched[1] && !a.batched[2] && !a.batched[3])
    return {unmerge(call1(a.op, {merge(a.in[0]), a.in[1], a.in[2], a.in[3]}, a.attrs), a.size)};
  if (a.size == 0) throw UnsupportedError({std::string(a.op.name), "vmap over an empty batch of weights", {}, {}, {}});
  Tensors list;
  for (int64_t i = 0; i < a.size; ++i) {
    Tensors in(a.in.begin(), a.in.end());
    for (size_t k = 0; k < in.size(); ++k) {
      if (a.batched[k]) in[k] = select(in[k], 0, i);
    }
    list.push_back(call1(a.op, in, a.attrs));
  }
  return {stack(list)};
}

Tensors batch_input_gradient(const BatchArgs& a) {
  if (!a.batched[1]) return {unmerge(call1(a.op, {merge(a.in[0]), a.in[1]}, a.attrs), a.size)};
  const Tensor ct = batch_to_channels(a.in[0], a.batched[0], a.size);
  return {channels_to_batch(call1(a.op, {ct, merge(a.in[1])}, in_groups(a.attrs, a.size)), a.size)};
}

Tensors batch_weight_gradient(const BatchArgs& a) {
  const Tensor x = batch_to_channels(a.in[0], a.batched[0], a.size);
  const Tensor ct = batch_to_channels(a.in[1], a.batched[1], a.size);
  return {unmerge(call1(a.op, {x, ct}, in_groups(a.attrs, a.size)), a.size)};
}

// ---- samples -------------------------------------------------------------------------------
std::vector<Sample> conv_samples() {
  const Ints one{1}, none{0}, ones{1, 1}, nones{0, 0};
  const SampleInput absent{.shape = {}, .absent = true};
  return {{{{{2, 2, 5}}, {{3, 2, 2}}, {{3}}}, {one, none, none, one, int64_t{1}}, "1-d"},
          {{{{1, 2, 4, 5}}, {{4, 2, 3, 2}}, {{4}}}, {ones, ones, ones, ones, int64_t{1}}, "padded"},
          {{{{2, 4, 5, 5}}, {{6, 2, 2, 3}}, absent},
           {Ints{2, 1}, Ints{0, 1}, Ints{1, 2}, Ints{2, 1}, int64_t{2}},
           "strides, dilations, groups, uneven padding"},
          {{{{1, 3, 4, 4}}, {{3, 1, 3, 3}}, {{3}}}, {Ints{2, 2}, ones, ones, ones, int64_t{3}}, "depthwise"},
          {{{{1, 2, 2, 3, 3}}, {{2, 2, 2, 2, 1}}, absent},
           {Ints{1, 1, 2}, Ints{0, 1, 0}, Ints{0, 0, 0}, Ints{1, 1, 1}, int64_t{1}},
           "3-d"},
          {{{{1, 1, 5}}, {{1, 1, 2}}, absent}, {one, Ints{-1}, none, one, int64_t{1}}, "negative padding cuts"},
          {{{{0, 2, 5}}, {{3, 2, 2}}, {{3}}}, {one, none, none, one, int64_t{1}}, "no example"}};
}

std::vector<Sample> integer_samples() {
  const Ints one{1}, none{0}, ones{1, 1}, nones{0, 0};
  const SampleInput absent{.shape = {}, .absent = true};
  const auto number = [](double v) { return SampleInput{.shape = {}, .values = {v}}; };
  return {{{{{2, 2, 5}}, {{3, 2, 2}}, absent, absent}, {one, none, none, one, int64_t{1}}, "1-d, no zero points"},
          {{{{1, 9, 4, 5}}, {{4, 9, 3, 2}}, number(1), absent}, {ones, ones, ones, ones, int64_t{1}}, "padded"},
          {{{{1, 3, 6, 7}}, {{4, 3, 3, 3}}, number(2), {{4}}}, {ones, ones, nones, ones, int64_t{1}}, "both"},
          {{{{2, 4, 5, 5}}, {{6, 2, 2, 3}}, absent, number(1)},
           {Ints{2, 1}, Ints{0, 1}, Ints{1, 2}, Ints{2, 1}, int64_t{2}},
           "strides, dilations, groups, uneven padding"},
          {{{{1, 3, 4, 4}}, {{3, 1, 3, 3}}, number(1), {{3}}}, {Ints{2, 2}, ones, ones, ones, int64_t{3}}, "depthwise"},
          {{{{2, 8, 3, 3}}, {{5, 8, 1, 1}}, number(1), {{5}}}, {ones, nones, nones, ones, int64_t{1}}, "one pixel"},
          {{{{1, 3, 2, 3, 3}}, {{2, 3, 2, 2, 1}}, absent, absent},
           {Ints{1, 1, 2}, Ints{0, 1, 0}, Ints{0, 0, 0}, Ints{1, 1, 1}, int64_t{1}},
           "3-d"},
          {{{{1, 3, 5}}, {{2, 3, 2}}, absent, absent}, {one, Ints{-1}, none, one, int64_t{1}}, "negative padding cuts"},
          {{{{0, 2, 5}}, {{3, 2, 2}}, absent, {{3}}}, {one, none, none, one, int64_t{1}}, "no example"},
          {{{{2, 0, 5}}, {{3, 0, 2}}, number(1), {{3}}}, {one, none, none, one, int64_t{1}}, "no channel"}};
}

std::vector<InvalidSample> integer_invalid_samples() {
  const Ints one{1}, none{0};
  const SampleInput absent{.shape = {}, .absent = true};
  const SampleInput bytes{.shape = {}, .dtype = static_cast<int>(DType::U8)};
  const SampleInput small{.shape = {1, 2, 5}, .dtype = static_cast<int>(DType::I8)};
  const ir::Attrs plain{one, none, none, one, int64_t{1}};
  return {{{{{1, 3, 5}}, {{2, 2, 2}}, absent, absent}, plain, "do not fit the weight"},
          {{{{1, 2, 2}}, {{3, 2, 4}}, absent, absent}, plain, "larger than the padded input"},
          {{{{1, 2, 5}}, {{3, 2, 2}}, {{2}}, absent}, plain, "'x_zero' does not fit"},
          {{{{1, 2, 5}}, {{3, 2, 2}}, absent, {{2}}}, plain, "'weight_zero' does not fit"},
          {{small, {{3, 2, 2}}, bytes, absent}, plain, "another dtype than 'x'"},
          {{{{2, 5}}, {{3, 2, 2}}, absent, absent}, plain, "wrong rank"}};
}

std::vector<InvalidSample> conv_invalid_samples() {
  const Ints one{1}, none{0};
  const SampleInput absent{.shape = {}, .absent = true};
  return {{{{{1, 3, 5}}, {{2, 2, 2}}, absent}, {one, none, none, one, int64_t{1}}, "do not fit the weight"},
          {{{{1, 2, 5}}, {{3, 1, 2}}, absent}, {one, none, none, one, int64_t{2}}, "do not fall into 2 groups"},
          {{{{1, 2, 2}}, {{3, 2, 4}}, absent}, {one, none, none, one, int64_t{1}}, "larger than the padded input"},
          {{{{1, 2, 5}}, {{3, 2, 2}}, {{2}}}, {one, none, none, one, int64_t{1}}, "the bias does not fit"},
          {{{{1, 2, 5}}, {{3, 2, 2}}, absent}, {Ints{0}, none, none, one, int64_t{1}}, "'strides' is too small"},
          {{{{1, 2, 5}}, {{3, 2, 2}}, absent}, {Ints{1, 1}, none, none, one, int64_t{1}}, "one number for each"},
          {{{{1, 2, 5}}, {{3, 2, 2}}, absent}, {one, none, none, one, int64_t{0}}, "'groups' is too small"},
          {{{{2, 5}}, {{3, 2, 2}}, absent}, {one, none, none, one, int64_t{1}}, "wrong rank"},
          {{{{1, 2, 5}}, {{3, 2, 2, 2}}, absent}, {one, none, none, one, int64_t{1}}, "another number of axes"}};
}

// A sum of up to a few hundred products: rounding grows with the square root of their number.
constexpr Tolerance kSumOfProducts{32, 1e-5};

// Each element of y [N, O, spatial…] takes part in C / groups x window… multiply-adds; also in both gradients.
using Types = std::span<const TensorType>;
double products(const Shape& y, const Shape& weight) {
  return 2.0 * static_cast<double>(numel(y)) * static_cast<double>(numel(Shape(weight.begin() + 1, weight.end())));
}

}  // namespace

const OpDef& conv_op() {
  static const OpDef def{
      .name = "conv",
      .doc =
          "Cross-correlation of x [N, C, spatial…] with weight [O, C / groups, window…], plus bias [O], over one to "
          "three spatial axes.",
      .inputs = {{"x", kFloats}, {"weight", kFloats}, {"bias", kFloats, ArgKind::Optional}},
      .attrs = conv_attrs(),
      .promote = kPromoteAll,
      .autocast = AutocastRule::Lower,
      .infer = infer_conv,
      .meaning = Primitive{conv_reference},
      .gradient = Vjp{conv_vjp, bit(0) | bit(1), 0},
      .batching = BatchRule{batch_conv},
      .samples = conv_samples,
      .invalid_samples = conv_invalid_samples,
      .tolerance = kSumOfProducts,
      .flops = [](Types in, Types out, const ir::Attrs&) { return products(out[0].shape, in[1].shape); }};
  return def;
}

const OpDef& conv_input_gradient_op() {
  static const OpDef def{
      .name = "conv_input_gradient",
      .doc = "The gradient of conv with respect to x; also the transposed convolution.",
      .inputs = {{"ct", kFloats}, {"weight", kFloats}},
      .attrs = gradient_attrs("input_extents"),
      .promote = kPromoteAll,
      .autocast = AutocastRule::Lower,
      .infer = infer_input_gradient,
      .meaning = Primitive{input_gradient_reference},
      .gradient = Vjp{[](const VjpArgs& a) {
                        Tensor dct, dw;
                        if (a.needs[0]) dct = conv(a.ct[0], a.in[1], a.attrs);
                        if (a.needs[1]) dw = weight_gradient(a.ct[0], a.in[0], a.attrs, a.in_types[1].shape);
                        return Tensors{dct, dw};
                      },
                      bit(0) | bit(1), 0},
      .batching = BatchRule{batch_input_gradient},
      .samples =
          [] {
            const Ints one{1}, none{0}, ones{1, 1};
            return std::vector<Sample>{
                {{{{2, 3, 4}}, {{3, 2, 2}}}, {one, none, none, one, int64_t{1}, Ints{5}}},
                {{{{1, 4, 2, 3}}, {{4, 1, 3, 2}}}, {Ints{2, 1}, ones, ones, Ints{1, 2}, int64_t{2}, Ints{3, 3}}},
                {{{{1, 2, 2, 2, 2}}, {{2, 1, 2, 1, 2}}},
                 {Ints{1, 2, 1}, Ints{0, 0, 0}, Ints{0, 0, 0}, Ints{1, 1, 1}, int64_t{1}, Ints{3, 4, 3}}}};
          },
      .invalid_samples =
          [] {
            const Ints one{1}, none{0};
            return std::vector<InvalidSample>{
                {{{{2, 3, 4}}, {{3, 2, 2}}}, {one, none, none, one, int64_t{1}, Ints{6}}, "not of the shape"},
                {{{{2, 3, 4}}, {{4, 2, 2}}}, {one, none, none, one, int64_t{1}, Ints{5}}, "not of the shape"},
                {{{{2, 3, 4}}, {{3, 2}}}, {one, none, none, one, int64_t{1}, Ints{5}}, "another number of axes"}};
          },
      .tolerance = kSumOfProducts,
      .flops = [](Types in, Types, const ir::Attrs&) { return products(in[0].shape, in[1].shape); }};
  return def;
}

const OpDef& conv_weight_gradient_op() {
  static const OpDef def{
      .name = "conv_weight_gradient",
      .doc = "The gradient of conv with respect to its weight.",
      .inputs = {{"x", kFloats}, {"ct", kFloats}},
      .attrs = gradient_attrs("window_extents"),
      .promote = kPromoteAll,
      .infer = infer_weight_gradient,
      .meaning = Primitive{weight_gradient_reference},
      .gradient = Vjp{[](const VjpArgs& a) {
                        Tensor dx, dct;
                        if (a.needs[0]) dx = input_gradient(a.in[1], a.ct[0], a.attrs, a.in_types[0].shape);
                        if (a.needs[1]) dct = conv(a.in[0], a.ct[0], a.attrs);
                        return Tensors{dx, dct};
                      },
                      bit(0) | bit(1), 0},
      .batching = BatchRule{batch_weight_gradient},
      .samples =
          [] {
            const Ints one{1}, none{0}, ones{1, 1};
            return std::vector<Sample>{
                {{{{2, 2, 5}}, {{2, 3, 4}}}, {one, none, none, one, int64_t{1}, Ints{2}}},
                {{{{2, 2, 3, 3}}, {{2, 4, 2, 3}}}, {Ints{2, 1}, ones, ones, Ints{1, 2}, int64_t{2}, Ints{3, 2}}}};
          },
      .invalid_samples =
          [] {
            const Ints one{1}, none{0};
            return std::vector<InvalidSample>{
                {{{{2, 2, 5}}, {{2, 3, 4}}}, {one, none, none, one, int64_t{1}, Ints{3}}, "not of the shape"},
                {{{{2, 2, 5}}, {{2, 3}}}, {one, none, none, one, int64_t{1}, Ints{2}}, "another number of axes"}};
          },
      .tolerance = kSumOfProducts,
      .flops = [](Types in, Types out, const ir::Attrs&) { return products(in[1].shape, out[0].shape); }};
  return def;
}

const OpDef& convolution_integer_op() {
  constexpr DTypeSet kBytes{DType::I8, DType::U8};
  static const OpDef def{
      .name = "convolution_integer",
      .doc =
          "Cross-correlation of 8-bit integers, x [N, C, spatial…] with weight [O, C / groups, window…], each of the "
          "two with or without a sign: sums of (x - x_zero) (weight - weight_zero) in i32 modulo 2^32, to which the "
          "padding adds nothing. x_zero is one number, weight_zero one or [O].",
      .inputs = {{"x", kBytes},
                 {"weight", kBytes},
                 {"x_zero", kBytes, ArgKind::Optional, "of x's dtype"},
                 {"weight_zero", kBytes, ArgKind::Optional, "of the weight's dtype"}},
      .attrs = conv_attrs(),
      .infer = infer_integer,
      .meaning = Primitive{integer_reference},
      .gradient = NoGradient{"sums of products of integers"},
      .batching = BatchRule{batch_integer},
      .samples = integer_samples,
      .invalid_samples = integer_invalid_samples,
      .flops = [](Types in, Types out, const ir::Attrs&) { return products(out[0].shape, in[1].shape); }};
  return def;
}

std::vector<const OpDef*> convolution_ops() {
  return {&conv_op(), &conv_input_gradient_op(), &conv_weight_gradient_op(), &convolution_integer_op()};
}

}  // namespace ops

namespace {

// x with a batch axis; `single` tells whether it had none.
Tensor batch_of_examples(std::string_view where, Tensor x, size_t rank, bool& single) {
  const auto axes = static_cast<size_t>(x.ndim());
  single = axes == rank + 1;
  if (!single && axes != rank + 2)
    throw ShapeError({std::string(where),
                      "input 'x' has the wrong rank",
                      fmt::format("[N, C, spatial…] with {} spatial axes", rank),
                      to_string(x.shape()),
                      {}});
  return single ? unsqueeze(std::move(x), {0}) : x;
}

void check_weight(std::string_view where, const Tensor& weight, size_t rank, std::string_view form) {
  if (static_cast<size_t>(weight.ndim()) != rank + 2)
    throw ShapeError({std::string(where), "input 'weight' has the wrong rank", std::string(form),
                      to_string(weight.shape()), fmt::format("{} window axes", rank)});
}

// Where a convolution with these options goes.
ir::Attrs attrs_of(std::string_view where, size_t rank, const Tensor& x, const Tensor& weight,
                   const ConvOptions& options) {
  const Ints stride = ops::for_each_axis(where, "stride", options.stride, rank);
  const Ints dilation = ops::for_each_axis(where, "dilation", options.dilation, rank);
  Ints low = ops::for_each_axis(where, "padding", options.padding, rank);
  Ints high =
      options.padding_high.empty() ? low : ops::for_each_axis(where, "padding_high", options.padding_high, rank);
  if (options.same) {
    for (size_t i = 0; i < rank; ++i) {
      if (stride[i] < 1) break;  // the op reports it
      const int64_t extent = x.shape()[i + 2], positions = (extent + stride[i] - 1) / stride[i];
      const int64_t reach = (positions - 1) * stride[i] + dilation[i] * (weight.shape()[i + 2] - 1) + 1;
      const int64_t total = std::max<int64_t>(reach - extent, 0);
      low[i] = total / 2;
      high[i] = total - low[i];
    }
  }
  return {stride, low, high, dilation, options.groups};
}

Tensor convolve(std::string_view where, size_t rank, Tensor x, Tensor weight, Tensor bias, const ConvOptions& options) {
  bool single = false;
  x = batch_of_examples(where, std::move(x), rank, single);
  check_weight(where, weight, rank, "[O, C / groups, window…]");
  const ir::Attrs attrs = attrs_of(where, rank, x, weight, options);
  Tensor y = ops::call1(ops::conv_op(), {std::move(x), std::move(weight), std::move(bias)}, attrs);
  return single ? squeeze(std::move(y), {0}) : y;
}

Tensor convolve_transposed(std::string_view where, size_t rank, Tensor x, Tensor weight, Tensor bias,
                           const ConvTransposeOptions& options) {
  bool single = false;
  x = batch_of_examples(where, std::move(x), rank, single);
  check_weight(where, weight, rank, "[C, O / groups, window…]");
  if (x.shape(1) != weight.shape(0))
    throw ShapeError({std::string(where), "the channels of x do not fit the weight",
                      fmt::format("{} channels", weight.shape(0)), std::to_string(x.shape(1)),
                      "weight is [C, O / groups, window…]"});
  const Ints stride = ops::for_each_axis(where, "stride", options.stride, rank);
  const Ints dilation = ops::for_each_axis(where, "dilation", options.dilation, rank);
  const Ints low = ops::for_each_axis(where, "padding", options.padding, rank);
  const Ints high =
      options.padding_high.empty() ? low : ops::for_each_axis(where, "padding_high", options.padding_high, rank);
  const Ints extra = ops::for_each_axis(where, "output_padding", options.output_padding, rank);
  Ints extents;
  for (size_t i = 0; i < rank; ++i) {
    if (extra[i] < 0 || extra[i] >= stride[i])
      throw ValueError({std::string(where),
                        "'output_padding' must be less than the stride",
                        fmt::format("0 to {}", stride[i] - 1),
                        std::to_string(extra[i]),
                        {}});
    extents.push_back((x.shape()[i + 2] - 1) * stride[i] - low[i] - high[i] +
                      dilation[i] * (weight.shape()[i + 2] - 1) + 1 + extra[i]);
  }
  Tensor y = ops::call1(ops::conv_input_gradient_op(), {std::move(x), std::move(weight)},
                        {stride, low, high, dilation, options.groups, extents});
  if (bias.defined()) {
    if (bias.ndim() != 1 || bias.size() != y.shape(1))
      throw ShapeError({std::string(where),
                        "the bias does not fit the output channels",
                        to_string(Shape{y.shape(1)}),
                        to_string(bias.shape()),
                        {}});
    Shape shape(rank + 2, 1);
    shape[1] = y.shape(1);
    y = std::move(y) + reshape(std::move(bias), shape);
  }
  return single ? squeeze(std::move(y), {0}) : y;
}

}  // namespace

Tensor conv1d(Tensor x, Tensor weight, Tensor bias, const ConvOptions& options) {
  return convolve("conv1d", 1, std::move(x), std::move(weight), std::move(bias), options);
}
Tensor conv2d(Tensor x, Tensor weight, Tensor bias, const ConvOptions& options) {
  return convolve("conv2d", 2, std::move(x), std::move(weight), std::move(bias), options);
}
Tensor conv3d(Tensor x, Tensor weight, Tensor bias, const ConvOptions& options) {
  return convolve("conv3d", 3, std::move(x), std::move(weight), std::move(bias), options);
}
Tensor convolution_integer(Tensor x, Tensor weight, const ZeroPoints& zeros, const ConvOptions& options) {
  constexpr std::string_view kWhere = "convolution_integer";
  if (weight.ndim() < 3 || weight.ndim() > 5)
    throw ShapeError({std::string(kWhere), "input 'weight' has the wrong rank", "[O, C / groups, window…]",
                      to_string(weight.shape()), "1 to 3 window axes"});
  const auto rank = static_cast<size_t>(weight.ndim()) - 2;
  bool single = false;
  x = batch_of_examples(kWhere, std::move(x), rank, single);
  const ir::Attrs attrs = attrs_of(kWhere, rank, x, weight, options);
  Tensor y = ops::call1(ops::convolution_integer_op(), {std::move(x), std::move(weight), zeros.x, zeros.weight}, attrs);
  return single ? squeeze(std::move(y), {0}) : y;
}
Tensor conv_transpose1d(Tensor x, Tensor weight, Tensor bias, const ConvTransposeOptions& options) {
  return convolve_transposed("conv_transpose1d", 1, std::move(x), std::move(weight), std::move(bias), options);
}
Tensor conv_transpose2d(Tensor x, Tensor weight, Tensor bias, const ConvTransposeOptions& options) {
  return convolve_transposed("conv_transpose2d", 2, std::move(x), std::move(weight), std::move(bias), options);
}
Tensor conv_transpose3d(Tensor x, Tensor weight, Tensor bias, const ConvTransposeOptions& options) {
  return convolve_transposed("conv_transpose3d", 3, std::move(x), std::move(weight), std::move(bias), options);
}

}  // namespace tenon
