// max_pool and average_pool with its gradient; the rest is made of these and of matmul, take and reductions.
// The gradient of max_pool scatters to the positions that it gives as its second result.
#include "tenon/ops/pooling.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tenon/base/error.h"
#include "tenon/ops/batching.h"
#include "tenon/ops/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/interpolate.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"
#include "tenon/ops/window.h"
#include "tenon/tensor/element.h"

namespace tenon {
namespace ops {
namespace {

enum Attr : uint8_t { kWindow, kStrides, kLow, kHigh };
enum MaxAttr : uint8_t { kDilations = 4, kMaxCeil };
enum AverageAttr : uint8_t { kAverageCeil = 4, kIncludePad, kExtents };

struct PoolRule {
  Ints dilations;
  bool ceil_mode, may_be_padding_only;
};

// The result's shape; every window must hold an element of x, unless padding counts as one.
Shape pool_shape(const InferArgs& a, const Shape& x, const PoolRule& rule) {
  const size_t rank = x.size() - 2;
  check_window_attr(a, kWindow, rank, 1);
  check_window_attr(a, kStrides, rank, 1);
  check_window_attr(a, kLow, rank, 0);
  check_window_attr(a, kHigh, rank, 0);
  Shape out{x[0], x[1]};
  for (size_t i = 0; i < rank; ++i) {
    const int64_t extent = x[i + 2], window = a.attrs.ints(kWindow)[i], stride = a.attrs.ints(kStrides)[i];
    const int64_t low = a.attrs.ints(kLow)[i], high = a.attrs.ints(kHigh)[i], dilation = rule.dilations[i];
    const int64_t count = window_count(extent, window, stride, low, high, dilation, rule.ceil_mode);
    if (count < 1)
      fail_shape(a, fmt::format("no window fits into spatial axis {}", i),
                 fmt::format("an extent of at least {}", dilation * (window - 1) + 1),
                 fmt::format("{}, {} with padding", extent, extent + low + high));
    const auto holds_an_element = [&](int64_t o) {
      for (int64_t t = 0; t < window; ++t) {
        const int64_t p = o * stride + t * dilation - low;
        if (p >= 0 && p < extent) return true;
      }
      return false;
    };
    for (int64_t o = 0; o < count && !rule.may_be_padding_only; ++o) {
      // Without dilation only the outermost windows can miss x.
      if (dilation == 1 && o != 0) o = count - 1;
      if (!holds_an_element(o))
        fail_value(a, fmt::format("window {} of spatial axis {} lies wholly in the padding", o, i),
                   "less padding than the window's extent",
                   fmt::format("window {}, padding {} and {}", window, low, high));
    }
    out.push_back(count);
  }
  return out;
}

// ---- max -----------------------------------------------------------------------------------
void max_reference(const ReferenceArgs& a) {
  const ConstView& x = a.inputs[0];
  const Ints in = spatial(x.shape), out = spatial(a.outputs[0].shape);
  const Windows w = make_windows(in, out, a.attrs.ints(kWindow), a.attrs.ints(kStrides), a.attrs.ints(kLow),
                                 a.attrs.ints(kDilations));
  const auto values = to_reals(x);  // exact for every dtype accepted
  const auto in_plane = static_cast<size_t>(numel(in)), out_plane = static_cast<size_t>(numel(out));
  const auto planes = static_cast<size_t>(x.shape[0] * x.shape[1]);
  std::vector<size_t> best(out_plane);
  for (size_t plane = 0; plane < planes; ++plane) {
    std::fill(best.begin(), best.end(), in_plane);  // none yet
    for_each_tap(w, [&](int64_t position, int64_t, int64_t element) {
      size_t& b = best[static_cast<size_t>(position)];
      const auto e = static_cast<size_t>(element);
      if (b == in_plane) {
        b = e;
        return;
      }
      const double now = values[plane * in_plane + b], next = values[plane * in_plane + e];
      if (next > now || (std::isnan(next) && !std::isnan(now))) b = e;
    });
    for (size_t o = 0; o < out_plane; ++o) {
      const auto to = static_cast<int64_t>(plane * out_plane + o);
      const double value = values[plane * in_plane + best[o]];
      const View &v = a.outputs[0], &index = a.outputs[1];
      if (is_float(v.dtype)) {
        store_real(v, v.offset + to, value);
      } else {
        store_integer(v, v.offset + to, static_cast<int64_t>(value));
      }
      store_integer(index, index.offset + to, static_cast<int64_t>(best[o]));
    }
  }
}

Tensors max_vjp(const VjpArgs& a) {
  const Shape& x = a.in_types[0].shape;
  const Shape flat{x[0], x[1], numel(spatial(x))}, places{x[0], x[1], numel(spatial(a.out_types[0].shape))};
  const Tensor zero = zeros(flat, a.in_types[0].dtype);
  return {
      reshape(scatter_along_axis(zero, reshape(a.out[1], places), reshape(a.ct[0], places), 2, ScatterMode::Add), x)};
}

// Integers that f64 holds exactly.
constexpr DTypeSet kOrdered = kFloats | DTypeSet{DType::U8, DType::U16, DType::U32, DType::I8, DType::I16, DType::I32};

SampleInput distinct(const Shape& shape) { return {.shape = shape, .low = -9, .high = 9, .distinct = true}; }

// ---- average -------------------------------------------------------------------------------
// How many elements each window counts.
std::vector<double> divisors(const Windows& w, const Ints& high, bool include_pad) {
  std::vector<double> counts;
  const size_t first = 3 - high.size();
  const auto count = [&](size_t axis, int64_t o) {
    const int64_t start = o * w.stride[axis] - w.low[axis], stop = start + w.window[axis];
    const int64_t pad = axis >= first && include_pad ? high[axis - first] : 0;
    return static_cast<double>(std::min(stop, w.in[axis] + pad) - (include_pad ? start : std::max<int64_t>(start, 0)));
  };
  for (int64_t a = 0; a < w.out[0]; ++a) {
    for (int64_t b = 0; b < w.out[1]; ++b) {
      for (int64_t c = 0; c < w.out[2]; ++c) counts.push_back(count(0, a) * count(1, b) * count(2, c));
    }
  }
  return counts;
}

// f(element of the result, of x, weight 1 / count) for every term of the averages.
template <class F>
void for_each_term(const Shape& x, const Shape& out, const ir::Attrs& attrs, F&& f) {
  const Ints in_extents = spatial(x), out_extents = spatial(out);
  const Windows w =
      make_windows(in_extents, out_extents, attrs.ints(kWindow), attrs.ints(kStrides), attrs.ints(kLow), {});
  const auto counts = divisors(w, attrs.ints(kHigh), attrs.flag(kIncludePad));
  const int64_t in_plane = numel(in_extents), out_plane = numel(out_extents);
  for (int64_t plane = 0; plane < x[0] * x[1]; ++plane) {
    for_each_tap(w, [&](int64_t position, int64_t, int64_t element) {
      f(static_cast<size_t>(plane * out_plane + position), static_cast<size_t>(plane * in_plane + element),
        counts[static_cast<size_t>(position)]);
    });
  }
}

void average_reference(const ReferenceArgs& a) {
  const auto x = to_reals(a.inputs[0]);
  std::vector<double> out(static_cast<size_t>(numel(a.outputs[0].shape)), 0);
  for_each_term(a.inputs[0].shape, a.outputs[0].shape, a.attrs,
                [&](size_t o, size_t i, double count) { out[o] += x[i] / count; });
  store_reals(out, a.outputs[0]);
}

void average_gradient_reference(const ReferenceArgs& a) {
  const auto ct = to_reals(a.inputs[0]);
  std::vector<double> dx(static_cast<size_t>(numel(a.outputs[0].shape)), 0);
  for_each_term(a.outputs[0].shape, a.inputs[0].shape, a.attrs,
                [&](size_t o, size_t i, double count) { dx[i] += ct[o] / count; });
  store_reals(dx, a.outputs[0]);
}

Shape average_shape(const InferArgs& a, const Shape& x) {
  return pool_shape(a, x, {Ints(x.size() - 2, 1), a.attrs.flag(kAverageCeil), a.attrs.flag(kIncludePad)});
}

std::vector<AttrSpec> average_attrs() {
  return {{"window", 1, ir::AttrType::IntList},
          {"strides", 2, ir::AttrType::IntList},
          {"padding_low", 3, ir::AttrType::IntList},
          {"padding_high", 4, ir::AttrType::IntList},
          {"ceil_mode", 5, ir::AttrType::Flag, "a last window may hang over the end"},
          {"count_include_pad", 6, ir::AttrType::Flag, "zeros of the padding count as elements"}};
}

}  // namespace

const OpDef& max_pool_op() {
  static const OpDef def{
      .name = "max_pool",
      .doc =
          "The largest element of each window of x [N, C, spatial…] and its row-major position in the spatial extents. "
          "NaN wins; of equal elements the first.",
      .inputs = {{"x", kOrdered}},
      .attrs = {{"window", 1, ir::AttrType::IntList},
                {"strides", 2, ir::AttrType::IntList},
                {"padding_low", 3, ir::AttrType::IntList},
                {"padding_high", 4, ir::AttrType::IntList},
                {"dilations", 5, ir::AttrType::IntList},
                {"ceil_mode", 6, ir::AttrType::Flag, "a last window may hang over the end"}},
      .results = 2,
      .infer =
          [](const InferArgs& a) {
            expect_rank(a, 0, 3, 5);
            check_window_attr(a, kDilations, a.in[0].shape.size() - 2, 1);
            const Shape out = pool_shape(a, a.in[0].shape, {a.attrs.ints(kDilations), a.attrs.flag(kMaxCeil), false});
            return std::vector<TensorType>{{a.in[0].dtype, out}, {DType::I32, out}};
          },
      .meaning = Primitive{max_reference},
      .gradient = Vjp{max_vjp, 0, bit(1)},
      .batching = BatchRule{batch_joins_examples},
      .samples =
          [] {
            const Ints twos{2, 2}, ones{1, 1}, none{0, 0};
            return std::vector<Sample>{
                {{distinct({2, 2, 4, 4})}, {twos, twos, none, none, ones, false}},
                {{distinct({1, 2, 5, 4})}, {Ints{3, 2}, ones, Ints{1, 0}, ones, ones, false}, "padded"},
                {{distinct({1, 2, 5, 5})}, {twos, twos, none, none, ones, true}, "ceil_mode"},
                {{distinct({2, 1, 7})}, {Ints{2}, Ints{1}, Ints{0}, Ints{0}, Ints{3}, false}, "dilated"},
                {{distinct({1, 1, 2, 3, 4})},
                 {Ints{2, 2, 2}, Ints{1, 1, 2}, Ints{0, 0, 0}, Ints{0, 0, 0}, Ints{1, 1, 1}, false},
                 "3-d"}};
          },
      .invalid_samples =
          [] {
            const Ints two{2}, one{1}, none{0};
            return std::vector<InvalidSample>{
                {{{{1, 1, 1}}}, {two, two, none, none, one, false}, "no window fits"},
                {{{{1, 1, 4}}}, {two, two, two, none, one, false}, "wholly in the padding"},
                {{{{1, 1, 4}}}, {Ints{0}, two, none, none, one, false}, "'window' is too small"},
                {{{{1, 1, 4}}}, {Ints{2, 2}, two, none, none, one, false}, "one number for each"},
                {{{{1, 4}}}, {two, two, none, none, one, false}, "wrong rank"}};
          },
      .differentiable_results = bit(0)};
  return def;
}

const OpDef& max_unpool_op() {
  static const OpDef def{
      .name = "max_unpool",
      .doc =
          "Zeros [N, C, extents…] with the elements of x [N, C, …] at the row-major positions that max_pool gave; of "
          "several at one place the last.",
      .inputs = {{"x", kNumbers}, {"indices", kIndex}},
      .attrs = {{"extents", 1, ir::AttrType::IntList, "spatial extents of the result"}},
      .infer =
          [](const InferArgs& a) {
            expect_rank(a, 0, 3);
            const Shape& x = a.in[0].shape;
            if (a.in[1].shape != x)
              fail_shape(a, "there is not one position for each element", to_string(x), to_string(a.in[1].shape));
            check_window_attr(a, 0, x.size() - 2, 0);
            expect_countable(a, with_channels(x[0], x[1], a.attrs.ints(0)));
            return std::vector<TensorType>{{a.in[0].dtype, with_channels(x[0], x[1], a.attrs.ints(0))}};
          },
      .meaning = Composite{[](std::span<const Tensor> in, const ir::Attrs& attrs) {
        const Shape& x = in[0].shape();
        const Shape flat{x[0], x[1], numel(spatial(x))}, map{x[0], x[1], numel(attrs.ints(0))};
        return Tensors{
            reshape(scatter_along_axis(zeros(map, in[0].dtype()), reshape(in[1], flat), reshape(in[0], flat), 2),
                    with_channels(x[0], x[1], attrs.ints(0)))};
      }},
      .gradient = GradientOfBody{},
      .batching = BatchRule{batch_joins_examples},
      .samples =
          [] {
            const int i64 = static_cast<int>(DType::I64), i32 = static_cast<int>(DType::I32);
            return std::vector<Sample>{
                {{{{1, 2, 2, 2}}, {{1, 2, 2, 2}, 0, 0, {0, 3, 9, 11, 5, 2, 8, 6}, i32}}, {Ints{3, 4}}},
                {{{{2, 1, 3}}, {{2, 1, 3}, 0, 0, {1, 4, 1, 0, 2, 3}, i64}}, {Ints{5}}, "a place twice"}};
          },
      .invalid_samples =
          [] {
            const int i64 = static_cast<int>(DType::I64);
            return std::vector<InvalidSample>{
                {{{{1, 1, 2}}, {{1, 1, 2}, 0, 0, {0, 4}, i64}}, {Ints{4}}, "out of range"},
                {{{{1, 1, 2}}, {{1, 1, 1}, 0, 0, {0}, i64}}, {Ints{4}}, "one position for each"},
                {{{{1, 1, 2}}, {{1, 1, 2}, 0, 0, {0, 1}, i64}}, {Ints{4, 4}}, "one number for each"},
                {{{{1, 2}}, {{1, 2}, 0, 0, {0, 1}, i64}}, {Ints{4}}, "wrong rank"}};
          }};
  return def;
}

const OpDef& average_pool_op() {
  static const OpDef def{
      .name = "average_pool",
      .doc = "The mean of each window of x [N, C, spatial…].",
      .inputs = {{"x", kFloats}},
      .attrs = average_attrs(),
      .infer =
          [](const InferArgs& a) {
            expect_rank(a, 0, 3, 5);
            return std::vector<TensorType>{{a.in[0].dtype, average_shape(a, a.in[0].shape)}};
          },
      .meaning = Primitive{average_reference},
      .gradient = Vjp{[](const VjpArgs& a) {
        return Tensors{call1(
            average_pool_gradient_op(), {a.ct[0]},
            {a.attrs[0], a.attrs[1], a.attrs[2], a.attrs[3], a.attrs[4], a.attrs[5], spatial(a.in_types[0].shape)})};
      }},
      .batching = BatchRule{batch_joins_examples},
      .samples =
          [] {
            const Ints twos{2, 2}, ones{1, 1}, none{0, 0};
            return std::vector<Sample>{
                {{{{2, 2, 4, 4}}}, {twos, twos, none, none, false, true}},
                {{{{1, 2, 5, 4}}}, {Ints{3, 2}, ones, ones, Ints{0, 1}, false, true}, "padding counts"},
                {{{{1, 2, 5, 4}}}, {Ints{3, 2}, twos, ones, ones, true, false}, "padding does not count"},
                {{{{1, 2, 5, 5}}}, {twos, twos, ones, ones, true, true}, "ceil_mode"},
                {{{{2, 1, 7}}}, {Ints{3}, Ints{2}, Ints{0}, Ints{0}, false, false}, "1-d"},
                {{{{1, 1, 2, 3, 4}}},
                 {Ints{2, 2, 2}, Ints{1, 1, 2}, Ints{0, 0, 0}, Ints{0, 0, 0}, false, true},
                 "3-d"}};
          },
      .invalid_samples =
          [] {
            const Ints two{2}, none{0};
            return std::vector<InvalidSample>{
                {{{{1, 1, 1}}}, {two, two, none, none, false, true}, "no window fits"},
                {{{{1, 1, 4}}}, {two, two, two, none, false, false}, "wholly in the padding"},
                {{{{1, 1, 4}}}, {two, two, Ints{-1}, none, false, false}, "'padding_low' is too small"},
                {{{{1, 4}}}, {two, two, none, none, false, true}, "wrong rank"}};
          },
      .tolerance = {16, 1e-5}};
  return def;
}

const OpDef& average_pool_gradient_op() {
  static const OpDef def{
      .name = "average_pool_gradient",
      .doc = "The gradient of average_pool: each cotangent spread evenly over the elements of its window.",
      .inputs = {{"ct", kFloats}},
      .attrs =
          [] {
            auto specs = average_attrs();
            specs.push_back({"input_extents", 7, ir::AttrType::IntList, "spatial extents of the result"});
            return specs;
          }(),
      .infer =
          [](const InferArgs& a) {
            expect_rank(a, 0, 3, 5);
            const Shape& ct = a.in[0].shape;
            check_window_attr(a, kExtents, ct.size() - 2, 1);
            const Shape x = with_channels(ct[0], ct[1], a.attrs.ints(kExtents)), out = average_shape(a, x);
            if (out != ct)
              fail_shape(a, "ct is not of the shape of the pooling's result", to_string(out), to_string(ct));
            return std::vector<TensorType>{{a.in[0].dtype, x}};
          },
      .meaning = Primitive{average_gradient_reference},
      .gradient = Vjp{[](const VjpArgs& a) {
        return Tensors{call1(average_pool_op(), {a.ct[0]},
                             {a.attrs[0], a.attrs[1], a.attrs[2], a.attrs[3], a.attrs[4], a.attrs[5]})};
      }},
      .batching = BatchRule{batch_joins_examples},
      .samples =
          [] {
            const Ints twos{2, 2}, ones{1, 1}, none{0, 0};
            return std::vector<Sample>{{{{{2, 2, 2, 2}}}, {twos, twos, none, none, false, true, Ints{4, 5}}},
                                       {{{{1, 2, 3, 3}}}, {Ints{3, 2}, twos, ones, ones, true, false, Ints{5, 4}}}};
          },
      .invalid_samples =
          [] {
            const Ints two{2}, none{0};
            return std::vector<InvalidSample>{
                {{{{1, 1, 3}}}, {two, two, none, none, false, true, Ints{4}}, "not of the shape"},
                {{{{1, 1, 3}}}, {two, two, none, none, false, true, Ints{4, 4}}, "one number for each"}};
          },
      .tolerance = {16, 1e-5}};
  return def;
}

std::vector<const OpDef*> pooling_ops() {
  return {&max_pool_op(), &max_unpool_op(), &average_pool_op(), &average_pool_gradient_op()};
}

}  // namespace ops

namespace {

// Runs `pool` on x with a batch axis.
template <class F>
Tensor on_batch(std::string_view where, size_t rank, Tensor x, F&& pool) {
  const auto axes = static_cast<size_t>(x.ndim());
  if (axes != rank + 1 && axes != rank + 2)
    throw ShapeError({std::string(where),
                      "input 'x' has the wrong rank",
                      fmt::format("[N, C, spatial…] with {} spatial axes", rank),
                      to_string(x.shape()),
                      {}});
  if (axes == rank + 2) return pool(std::move(x));
  return squeeze(pool(unsqueeze(std::move(x), {0})), {0});
}

Ints stride_or_window(std::string_view where, const Ints& stride, const Ints& window, size_t rank) {
  return ops::for_each_axis(where, "stride", stride.empty() ? window : stride, rank);
}
Ints high_or_low(std::string_view where, const Ints& high, const Ints& low, size_t rank) {
  return ops::for_each_axis(where, "padding_high", high.empty() ? low : high, rank);
}

Tensors max_pool(std::string_view where, size_t rank, Tensor x, const Ints& window, const MaxPoolOptions& o) {
  return ops::call(
      ops::max_pool_op(), {std::move(x)},
      {ops::for_each_axis(where, "window", window, rank), stride_or_window(where, o.stride, window, rank),
       ops::for_each_axis(where, "padding", o.padding, rank), high_or_low(where, o.padding_high, o.padding, rank),
       ops::for_each_axis(where, "dilation", o.dilation, rank), o.ceil_mode});
}

Tensor max_pool_values(std::string_view where, size_t rank, Tensor x, const Ints& window, const MaxPoolOptions& o) {
  return on_batch(where, rank, std::move(x),
                  [&](Tensor batch) { return max_pool(where, rank, std::move(batch), window, o)[0]; });
}

Tensor average_pool(std::string_view where, size_t rank, Tensor x, const Ints& window, const AveragePoolOptions& o) {
  return on_batch(where, rank, std::move(x), [&](Tensor batch) {
    return ops::call1(
        ops::average_pool_op(), {std::move(batch)},
        {ops::for_each_axis(where, "window", window, rank), stride_or_window(where, o.stride, window, rank),
         ops::for_each_axis(where, "padding", o.padding, rank), high_or_low(where, o.padding_high, o.padding, rank),
         o.ceil_mode, o.count_include_pad});
  });
}

Tensor lp_pool(std::string_view where, size_t rank, Tensor x, double p, const Ints& window, const LpPoolOptions& o) {
  if (!(p > 0) || std::isinf(p))
    throw ValueError({std::string(where), "'p' is not a positive number", "p > 0", fmt::format("{}", p),
                      "max_pool is the limit of large p"});
  const Ints extents = ops::for_each_axis(where, "window", window, rank);
  // Averages times the number of elements counted: the window's, or what is left of it at the end of an axis.
  const Tensor powers = power(abs(std::move(x)), p);
  const Tensor averages = average_pool(where, rank, powers, extents, {.stride = o.stride, .ceil_mode = o.ceil_mode});
  const Ints stride = stride_or_window(where, o.stride, window, rank);
  Tensor counts = ones({}, averages.dtype());
  for (size_t i = 0; i < rank; ++i) {
    const int64_t axis = static_cast<int64_t>(i) - static_cast<int64_t>(rank);
    Shape along(rank, 1);
    along[i] = averages.shape(axis);
    const Tensor left = Tensor(powers.shape(axis)) - arange(along[i]) * stride[i];
    counts = counts * reshape(cast(minimum(left, extents[i]), averages.dtype()), along);
  }
  return power(averages * counts, 1 / p);
}

// ---- adaptive ------------------------------------------------------------------------------
int64_t window_start(int64_t i, int64_t in, int64_t out) { return i * in / out; }
int64_t window_stop(int64_t i, int64_t in, int64_t out) { return ((i + 1) * in + out - 1) / out; }

// Applies `pool(x, axis, extent)` to each spatial axis.
template <class F>
Tensor along_axes(std::string_view where, size_t rank, Tensor x, const Ints& extents, F&& pool) {
  const Ints out = ops::for_each_axis(where, "extents", extents, rank);
  return on_batch(where, rank, std::move(x), [&](Tensor y) {
    for (size_t i = 0; i < rank; ++i) {
      const auto axis = static_cast<int64_t>(i) + 2;
      if (out[i] == -1 || out[i] == y.shape(axis)) continue;
      if (out[i] < 1 || y.shape(axis) == 0)
        throw ValueError({std::string(where), fmt::format("spatial axis {} cannot be pooled so", i),
                          "an extent of at least 1, from at least 1", fmt::format("{} from {}", out[i], y.shape(axis)),
                          "-1 keeps the extent"});
      y = pool(std::move(y), axis, out[i]);
    }
    return y;
  });
}

Tensor average_along(Tensor x, int64_t axis, int64_t out) {
  if (out == 1) return mean(std::move(x), {axis}, true);
  return interpolate_axis(std::move(x), axis, {.extent = out, .method = AxisInterpolation::Method::Area});
}

// Windows differ by one in length at most: the shorter ones name their last element twice.
Tensor max_along(Tensor x, int64_t axis, int64_t out) {
  const int64_t in = x.shape(axis);
  int64_t longest = 0;
  for (int64_t o = 0; o < out; ++o) longest = std::max(longest, window_stop(o, in, out) - window_start(o, in, out));
  std::vector<int64_t> positions;
  for (int64_t o = 0; o < out; ++o) {
    for (int64_t k = 0; k < longest; ++k)
      positions.push_back(std::min(window_start(o, in, out) + k, window_stop(o, in, out) - 1));
  }
  return max(take(std::move(x), from_vector(positions, {out, longest}), axis), {axis + 1});
}

Tensor adaptive_average(std::string_view where, size_t rank, Tensor x, const Ints& extents) {
  return along_axes(where, rank, std::move(x), extents, average_along);
}
Tensor adaptive_max(std::string_view where, size_t rank, Tensor x, const Ints& extents) {
  return along_axes(where, rank, std::move(x), extents, max_along);
}

Ints spatial_axes(std::string_view where, const Tensor& x) {
  if (x.ndim() < 3)
    throw ShapeError(
        {std::string(where), "input 'x' has no spatial axis", "[N, C, spatial…]", to_string(x.shape()), {}});
  Ints axes;
  for (int64_t i = 2; i < x.ndim(); ++i) axes.push_back(i);
  return axes;
}

}  // namespace

Tensor max_pool1d(Tensor x, const Ints& window, const MaxPoolOptions& options) {
  return max_pool_values("max_pool1d", 1, std::move(x), window, options);
}
Tensor max_pool2d(Tensor x, const Ints& window, const MaxPoolOptions& options) {
  return max_pool_values("max_pool2d", 2, std::move(x), window, options);
}
Tensor max_pool3d(Tensor x, const Ints& window, const MaxPoolOptions& options) {
  return max_pool_values("max_pool3d", 3, std::move(x), window, options);
}
MaxPoolResult max_pool_with_indices(Tensor x, const Ints& window, const MaxPoolOptions& options) {
  const bool single = static_cast<size_t>(x.ndim()) == window.size() + 1;
  if (single) x = unsqueeze(std::move(x), {0});
  Tensors r = max_pool("max_pool_with_indices", window.size(), std::move(x), window, options);
  if (single) return {squeeze(r[0], {0}), squeeze(r[1], {0})};
  return {r[0], r[1]};
}

Tensor max_unpool(Tensor x, Tensor indices, const Ints& window, const MaxUnpoolOptions& o) {
  const size_t rank = window.size();
  if (x.shape() != indices.shape())
    throw ShapeError({"max_unpool",
                      "there is not one position for each element",
                      to_string(x.shape()),
                      to_string(indices.shape()),
                      {}});
  Ints extents = o.extents;
  if (extents.empty() && static_cast<size_t>(x.ndim()) > rank) {
    const Ints stride = stride_or_window("max_unpool", o.stride, window, rank);
    const Ints padding = ops::for_each_axis("max_unpool", "padding", o.padding, rank);
    for (size_t k = 0; k < rank; ++k) {
      const int64_t extent = x.shape(static_cast<int64_t>(k) - static_cast<int64_t>(rank));
      extents.push_back((extent - 1) * stride[k] - 2 * padding[k] + window[k]);
    }
  }
  const bool single = static_cast<size_t>(x.ndim()) == rank + 1;
  return on_batch("max_unpool", rank, std::move(x), [&](Tensor batch) {
    if (single) indices = unsqueeze(std::move(indices), {0});
    return ops::call1(ops::max_unpool_op(), {std::move(batch), std::move(indices)}, {extents});
  });
}

Tensor avg_pool1d(Tensor x, const Ints& window, const AveragePoolOptions& options) {
  return average_pool("avg_pool1d", 1, std::move(x), window, options);
}
Tensor avg_pool2d(Tensor x, const Ints& window, const AveragePoolOptions& options) {
  return average_pool("avg_pool2d", 2, std::move(x), window, options);
}
Tensor avg_pool3d(Tensor x, const Ints& window, const AveragePoolOptions& options) {
  return average_pool("avg_pool3d", 3, std::move(x), window, options);
}

Tensor lp_pool1d(Tensor x, double p, const Ints& window, const LpPoolOptions& options) {
  return lp_pool("lp_pool1d", 1, std::move(x), p, window, options);
}
Tensor lp_pool2d(Tensor x, double p, const Ints& window, const LpPoolOptions& options) {
  return lp_pool("lp_pool2d", 2, std::move(x), p, window, options);
}
Tensor lp_pool3d(Tensor x, double p, const Ints& window, const LpPoolOptions& options) {
  return lp_pool("lp_pool3d", 3, std::move(x), p, window, options);
}

Tensor adaptive_avg_pool1d(Tensor x, const Ints& extents) {
  return adaptive_average("adaptive_avg_pool1d", 1, std::move(x), extents);
}
Tensor adaptive_avg_pool2d(Tensor x, const Ints& extents) {
  return adaptive_average("adaptive_avg_pool2d", 2, std::move(x), extents);
}
Tensor adaptive_avg_pool3d(Tensor x, const Ints& extents) {
  return adaptive_average("adaptive_avg_pool3d", 3, std::move(x), extents);
}
Tensor adaptive_max_pool1d(Tensor x, const Ints& extents) {
  return adaptive_max("adaptive_max_pool1d", 1, std::move(x), extents);
}
Tensor adaptive_max_pool2d(Tensor x, const Ints& extents) {
  return adaptive_max("adaptive_max_pool2d", 2, std::move(x), extents);
}
Tensor adaptive_max_pool3d(Tensor x, const Ints& extents) {
  return adaptive_max("adaptive_max_pool3d", 3, std::move(x), extents);
}

Tensor global_avg_pool(Tensor x) {
  const Ints axes = spatial_axes("global_avg_pool", x);
  return mean(std::move(x), axes, true);
}
Tensor global_max_pool(Tensor x) {
  const Ints axes = spatial_axes("global_max_pool", x);
  return max(std::move(x), axes, true);
}

}  // namespace tenon
