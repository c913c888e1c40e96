// unfold copies a view of sliding windows; fold adds elements to the places they came from. Each is the other's
// gradient.
#include "tenon/ops/patches.h"

#include <fmt/format.h>

#include "tenon/base/error.h"
#include "tenon/ops/batching.h"
#include "tenon/ops/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/window.h"

namespace tenon {
namespace ops {
namespace {

enum Attr : uint8_t { kWindow, kStrides, kLow, kHigh, kDilations, kExtents };

std::vector<AttrSpec> window_attrs() {
  return {{"window", 1, ir::AttrType::IntList},
          {"strides", 2, ir::AttrType::IntList},
          {"padding_low", 3, ir::AttrType::IntList},
          {"padding_high", 4, ir::AttrType::IntList},
          {"dilations", 5, ir::AttrType::IntList}};
}

// How many windows each axis of a map with these extents has.
Ints window_counts(const Ints& extents, const ir::Attrs& attrs) {
  Ints counts;
  for (size_t k = 0; k < extents.size(); ++k)
    counts.push_back(window_count(extents[k], attrs.ints(kWindow)[k], attrs.ints(kStrides)[k], attrs.ints(kLow)[k],
                                  attrs.ints(kHigh)[k], attrs.ints(kDilations)[k]));
  return counts;
}

Ints padded_extents(const Ints& extents, const ir::Attrs& attrs) {
  Ints padded;
  for (size_t k = 0; k < extents.size(); ++k) padded.push_back(extents[k] + attrs.ints(kLow)[k] + attrs.ints(kHigh)[k]);
  return padded;
}

Ints checked_counts(const InferArgs& a, const Ints& extents) {
  for (const auto& [which, least] :
       {std::pair<size_t, int64_t>{kWindow, 1}, {kStrides, 1}, {kLow, 0}, {kHigh, 0}, {kDilations, 1}})
    check_window_attr(a, which, extents.size(), least);
  const Ints counts = window_counts(extents, a.attrs);
  for (size_t k = 0; k < counts.size(); ++k) {
    if (counts[k] < 1)
      fail_shape(
          a, fmt::format("no window fits into spatial axis {}", k),
          fmt::format("an extent of at least {}", a.attrs.ints(kDilations)[k] * (a.attrs.ints(kWindow)[k] - 1) + 1),
          fmt::format("{} with padding", extents[k] + a.attrs.ints(kLow)[k] + a.attrs.ints(kHigh)[k]));
  }
  expect_countable(a, padded_extents(extents, a.attrs));
  expect_countable(a, a.attrs.ints(kWindow));
  expect_countable(a, counts);
  return counts;
}
Tensors unfold_body(std::span<const Tensor> in, const ir::Attrs& attrs) {
  const Tensor& x = in[0];
  const Ints extents = spatial(x.shape()), counts = window_counts(extents, attrs);
  const Ints &window = attrs.ints(kWindow), &strides = attrs.ints(kStrides), &dilations = attrs.ints(kDilations);
  const size_t rank = extents.size();
  Ints before{0, 0}, after{0, 0};
  for (size_t k = 0; k < rank; ++k) {
    before.push_back(attrs.ints(kLow)[k]);
    after.push_back(attrs.ints(kHigh)[k]);
  }
  Tensor y = padded_extents(extents, attrs) == extents ? x : pad(x, before, after);
  // [N, C, windows…, their elements…]
  for (size_t k = 0; k < rank; ++k) {
    y = sliding_window(y, static_cast<int64_t>(k) + 2, dilations[k] * (window[k] - 1) + 1, strides[k]);
    if (dilations[k] != 1) y = slice(y, {-1}, {0}, {kEnd}, {dilations[k]});
  }
  Ints order{0, 1};
  for (size_t k = 0; k < rank; ++k) order.push_back(static_cast<int64_t>(2 + rank + k));
  for (size_t k = 0; k < rank; ++k) order.push_back(static_cast<int64_t>(2 + k));
  return {reshape(permute(y, order), {x.shape(0), x.shape(1) * numel(window), numel(counts)})};
}

// Where in the padded map, row-major, each element of each window lies: for each tap, for each window.
std::vector<int64_t> places_of(const Ints& padded, const Ints& counts, const ir::Attrs& attrs) {
  std::vector<int64_t> places{0};
  const auto extend = [&](const Ints& extents, const Ints& steps) {
    for (size_t k = 0; k < extents.size(); ++k) {
      int64_t pitch = steps[k];
      for (size_t j = k + 1; j < padded.size(); ++j) pitch *= padded[j];
      std::vector<int64_t> next;
      for (int64_t p : places) {
        for (int64_t i = 0; i < extents[k]; ++i) next.push_back(p + i * pitch);
      }
      places = std::move(next);
    }
  };
  extend(attrs.ints(kWindow), attrs.ints(kDilations));
  extend(counts, attrs.ints(kStrides));
  return places;
}

Tensors fold_body(std::span<const Tensor> in, const ir::Attrs& attrs) {
  const DType dtype = in[0].dtype();
  const bool narrow_float = is_float(dtype) && info(dtype).bits < 32;
  const Tensor x = narrow_float ? cast(in[0], DType::F32) : in[0];
  const Ints& extents = attrs.ints(kExtents);
  const Ints padded = padded_extents(extents, attrs);
  const int64_t examples = x.shape(0), channels = x.shape(1) / numel(attrs.ints(kWindow));
  const auto places = places_of(padded, window_counts(extents, attrs), attrs);
  const auto count = static_cast<int64_t>(places.size());
  Tensor y = index_add(zeros({examples * channels, numel(padded)}, x.dtype()), 1, from_vector(places, {count}),
                       reshape(x, {examples * channels, count}));
  y = reshape(y, with_channels(examples, channels, padded));
  if (padded != extents) {
    Ints axes, starts, stops;
    for (size_t k = 0; k < extents.size(); ++k) {
      axes.push_back(static_cast<int64_t>(k) + 2);
      starts.push_back(attrs.ints(kLow)[k]);
      stops.push_back(attrs.ints(kLow)[k] + extents[k]);
    }
    y = slice(y, axes, starts, stops);
  }
  return {cast(y, dtype)};
}

std::vector<TensorType> infer_fold(const InferArgs& a) {
  expect_rank(a, 0, 3, 3);
  const Shape& x = a.in[0].shape;
  const Ints& extents = a.attrs.ints(kExtents);
  if (extents.empty()) fail_value(a, "there is no spatial axis", "at least one extent", "none");
  check_window_attr(a, kExtents, extents.size(), 1);
  const Ints counts = checked_counts(a, extents);
  const int64_t window = numel(a.attrs.ints(kWindow));
  if (x[1] % window != 0 || x[2] != numel(counts))
    fail_shape(a, "the columns do not fit the windows", fmt::format("[N, C * {}, {}]", window, numel(counts)),
               to_string(x));
  return {{a.in[0].dtype, with_channels(x[0], x[1] / window, extents)}};
}

int64_t factor_of(const InferArgs& a) {
  expect_rank(a, 0, 3);
  if (a.attrs.integer(0) < 1 || a.attrs.integer(0) > UINT16_MAX)
    fail_value(a, "the factor is too small or too large", "1 to 65535", std::to_string(a.attrs.integer(0)));
  return a.attrs.integer(0);
}

// [..., C, H, W] apart: what comes before, and the three.
struct Picture {
  Shape batch;
  int64_t channels, height, width;
};
Picture picture(const Shape& x) {
  const size_t n = x.size();
  return {Shape(x.begin(), x.end() - 3), x[n - 3], x[n - 2], x[n - 1]};
}
Shape with(Shape batch, std::initializer_list<int64_t> rest) {
  for (int64_t d : rest) batch.push_back(d);
  return batch;
}

// Both shuffles view the picture with six axes more or less and permute these.
Tensor rearranged(const Tensor& x, const Shape& apart, const Ints& order, const Shape& together) {
  Ints all;
  const auto batch = static_cast<int64_t>(apart.size() - order.size());
  for (int64_t i = 0; i < batch; ++i) all.push_back(i);
  for (int64_t i : order) all.push_back(batch + i);
  return reshape(permute(reshape(x, apart), all), together);
}

const std::vector<AttrSpec> kFactor{{"factor", 1, ir::AttrType::Int, "elements of a block along each axis"}};

std::vector<Sample> unfold_samples() {
  const Ints twos{2, 2}, ones{1, 1}, none{0, 0};
  return {{{{{2, 2, 3, 4}}}, {twos, ones, none, none, ones}},
          {{{{1, 2, 5, 4}}}, {Ints{3, 2}, twos, Ints{1, 0}, ones, Ints{1, 2}}, "padded, dilated"},
          {{{{2, 1, 6}}}, {Ints{3}, Ints{2}, Ints{0}, Ints{1}, Ints{1}}, "1-d"},
          {{{{1, 1, 2, 3, 3}}}, {Ints{2, 2, 1}, Ints{1, 1, 2}, Ints{0, 0, 0}, Ints{0, 0, 0}, Ints{1, 1, 1}}, "3-d"}};
}

}  // namespace

const OpDef& sliding_window_op() {
  static const OpDef def{
      .name = "sliding_window",
      .doc =
          "Windows of one axis: element j of window i, x[…, i * step + j, …], stands at […, i, …, j], with the windows "
          "in place of the axis and their elements last.",
      .inputs = {{"x", kAny}},
      .attrs = {{"axis", 1, ir::AttrType::Int},
                {"size", 2, ir::AttrType::Int, "of a window"},
                {"step", 3, ir::AttrType::Int, "from one window to the next"}},
      .infer =
          [](const InferArgs& a) {
            Shape shape = a.in[0].shape;
            const auto axis =
                static_cast<size_t>(normalize_axis(a.op.name, a.attrs.integer(0), static_cast<int64_t>(shape.size())));
            const int64_t size = a.attrs.integer(1), step = a.attrs.integer(2);
            if (size < 1 || step < 1)
              fail_value(a, "a window's size or step is too small", "at least 1", fmt::format("{} and {}", size, step));
            if (shape[axis] < size)
              fail_shape(a, fmt::format("axis {} is shorter than a window", axis), fmt::format("at least {}", size),
                         std::to_string(shape[axis]));
            shape[axis] = (shape[axis] - size) / step + 1;
            shape.push_back(size);
            return std::vector<TensorType>{{a.in[0].dtype, shape}};
          },
      .meaning = Relayout{[](const Window& in, const ir::Attrs& attrs, const Shape& out, Window& result) {
        const auto axis = static_cast<size_t>(
            normalize_axis("sliding_window", attrs.integer(0), static_cast<int64_t>(in.shape.size())));
        result = {out, in.strides, in.offset};
        result.strides.push_back(in.strides[axis]);
        if (out[axis] > 1) result.strides[axis] *= attrs.integer(2);
        return true;
      }},
      .gradient = Vjp{[](const VjpArgs& a) {
        const Shape& x = a.in_types[0].shape;
        const int64_t axis = normalize_axis("sliding_window", a.attrs.integer(0), static_cast<int64_t>(x.size()));
        const Tensor ct = moveaxis(a.ct[0], -1, axis + 1);
        const int64_t count = ct.shape(axis), size = a.attrs.integer(1);
        const Tensor places = reshape(arange(count) * a.attrs.integer(2), {count, 1}) + arange(size);
        Shape merged = x;
        merged[static_cast<size_t>(axis)] = count * size;
        return Tensors{index_add(zeros(x, ct.dtype()), axis, flatten(places), reshape(ct, merged))};
      }},
      .batching = BatchRule{[](const BatchArgs& a) {
        const int64_t axis = normalize_axis(a.op.name, a.attrs.integer(0), a.in[0].ndim() - 1);
        return Tensors{sliding_window(a.in[0], axis + 1, a.attrs.integer(1), a.attrs.integer(2))};
      }},
      .samples =
          [] {
            return std::vector<Sample>{{{{{2, 5, 3}}}, {int64_t{1}, int64_t{3}, int64_t{1}}},
                                       {{{{7}}}, {int64_t{-1}, int64_t{2}, int64_t{3}}},
                                       {{{{4, 2}}}, {int64_t{0}, int64_t{4}, int64_t{1}}}};
          },
      .invalid_samples =
          [] {
            return std::vector<InvalidSample>{
                {{{{2, 5}}}, {int64_t{1}, int64_t{6}, int64_t{1}}, "shorter than a window"},
                {{{{2, 5}}}, {int64_t{1}, int64_t{2}, int64_t{0}}, "too small"},
                {{{{2, 5}}}, {int64_t{2}, int64_t{2}, int64_t{1}}, "axis"}};
          }};
  return def;
}

const OpDef& unfold_op() {
  static const OpDef def{
      .name = "unfold",
      .doc =
          "The windows of x [N, C, spatial…] as columns [N, C * elements of the window, windows] (im2col); padding is "
          "zeros.",
      .inputs = {{"x", kNumbers}},
      .attrs = window_attrs(),
      .infer =
          [](const InferArgs& a) {
            expect_rank(a, 0, 3);
            const Shape& x = a.in[0].shape;
            const Ints counts = checked_counts(a, spatial(x));
            return std::vector<TensorType>{{a.in[0].dtype, {x[0], x[1] * numel(a.attrs.ints(kWindow)), numel(counts)}}};
          },
      .meaning = Composite{unfold_body},
      .gradient = Vjp{[](const VjpArgs& a) {
        return Tensors{
            call1(fold_op(), {a.ct[0]},
                  {a.attrs[0], a.attrs[1], a.attrs[2], a.attrs[3], a.attrs[4], spatial(a.in_types[0].shape)})};
      }},
      .batching = BatchRule{batch_joins_examples},
      .samples = unfold_samples,
      .invalid_samples =
          [] {
            const Ints two{2}, one{1}, none{0};
            return std::vector<InvalidSample>{
                {{{{1, 1, 1}}}, {two, one, none, none, one}, "no window fits"},
                {{{{1, 1, 4}}}, {two, none, none, none, one}, "'strides' is too small"},
                {{{{1, 1, 4}}}, {Ints{2, 2}, one, none, none, one}, "one number for each"},
                {{{{1, 4}}}, {two, one, none, none, one}, "wrong rank"}};
          }};
  return def;
}

const OpDef& fold_op() {
  static const OpDef def{
      .name = "fold",
      .doc =
          "Columns [N, C * elements of the window, windows] added up into the windows of a map [N, C, extents…] "
          "(col2im). What falls into the padding is dropped.",
      .inputs = {{"x", kNumbers}},
      .attrs =
          [] {
            auto specs = window_attrs();
            specs.push_back({"extents", 6, ir::AttrType::IntList, "spatial extents of the result"});
            return specs;
          }(),
      .infer = infer_fold,
      .meaning = Composite{fold_body},
      .gradient = Vjp{[](const VjpArgs& a) {
        return Tensors{call1(unfold_op(), {a.ct[0]}, {a.attrs[0], a.attrs[1], a.attrs[2], a.attrs[3], a.attrs[4]})};
      }},
      .batching = BatchRule{batch_joins_examples},
      .samples =
          [] {
            const Ints twos{2, 2}, ones{1, 1}, none{0, 0};
            return std::vector<Sample>{
                {{{{2, 8, 6}}}, {twos, ones, none, none, ones, Ints{3, 4}}},
                {{{{1, 12, 6}}}, {Ints{3, 2}, twos, Ints{1, 0}, ones, Ints{1, 2}, Ints{5, 5}}, "padded, dilated"},
                {{{{2, 3, 3}}}, {Ints{3}, Ints{2}, Ints{0}, Ints{1}, Ints{1}, Ints{6}}, "1-d"}};
          },
      .invalid_samples =
          [] {
            const Ints two{2}, one{1}, none{0};
            return std::vector<InvalidSample>{
                {{{{1, 2, 4}}}, {two, one, none, none, one, Ints{4}}, "do not fit the windows"},
                {{{{1, 3, 3}}}, {two, one, none, none, one, Ints{4}}, "do not fit the windows"},
                {{{{1, 2, 3}}}, {two, one, none, none, one, Ints{1}}, "no window fits"},
                {{{{1, 2, 3}}}, {two, one, none, none, one, Ints{int64_t{1} << 40}}, "'extents' is too large"},
                {{{{1, 2, 3}}}, {two, one, none, none, one, Ints{}}, "no spatial axis"},
                {{{{2, 3}}}, {two, one, none, none, one, Ints{4}}, "wrong rank"}};
          },
      .tolerance = {16, 1e-5}};
  return def;
}

namespace {

const OpDef& pixel_shuffle_op() {
  static const OpDef def{
      .name = "pixel_shuffle",
      .doc = "[..., C * factor * factor, H, W] -> [..., C, H * factor, W * factor]: channels become blocks of pixels.",
      .inputs = {{"x", kAny}},
      .attrs = kFactor,
      .infer =
          [](const InferArgs& a) {
            const int64_t f = factor_of(a);
            const Picture p = picture(a.in[0].shape);
            if (p.channels % (f * f) != 0)
              fail_shape(a, "the channels do not divide into blocks", fmt::format("a multiple of {}", f * f),
                         std::to_string(p.channels));
            return std::vector<TensorType>{
                {a.in[0].dtype, with(p.batch, {p.channels / (f * f), p.height * f, p.width * f})}};
          },
      .meaning = Composite{[](std::span<const Tensor> in, const ir::Attrs& attrs) {
        const int64_t f = attrs.integer(0);
        const Picture p = picture(in[0].shape());
        const int64_t channels = p.channels / (f * f);
        return Tensors{rearranged(in[0], with(p.batch, {channels, f, f, p.height, p.width}), {0, 3, 1, 4, 2},
                                  with(p.batch, {channels, p.height * f, p.width * f}))};
      }},
      .gradient = GradientOfBody{},
      .batching = LeadingAxes{},
      .samples = [] { return std::vector<Sample>{{{{{2, 8, 2, 3}}}, {int64_t{2}}}, {{{{9, 1, 2}}}, {int64_t{3}}}}; },
      .invalid_samples =
          [] {
            return std::vector<InvalidSample>{{{{{1, 6, 2, 2}}}, {int64_t{2}}, "do not divide"},
                                              {{{{1, 4, 2, 2}}}, {int64_t{0}}, "too small"},
                                              {{{{4, 2}}}, {int64_t{2}}, "wrong rank"}};
          }};
  return def;
}

const OpDef& pixel_unshuffle_op() {
  static const OpDef def{
      .name = "pixel_unshuffle",
      .doc = "[..., C, H * factor, W * factor] -> [..., C * factor * factor, H, W]: blocks of pixels become channels.",
      .inputs = {{"x", kAny}},
      .attrs = kFactor,
      .infer =
          [](const InferArgs& a) {
            const int64_t f = factor_of(a);
            const Picture p = picture(a.in[0].shape);
            if (p.height % f != 0 || p.width % f != 0)
              fail_shape(a, "the extents do not divide into blocks", fmt::format("multiples of {}", f),
                         fmt::format("{} and {}", p.height, p.width));
            return std::vector<TensorType>{
                {a.in[0].dtype, with(p.batch, {p.channels * f * f, p.height / f, p.width / f})}};
          },
      .meaning = Composite{[](std::span<const Tensor> in, const ir::Attrs& attrs) {
        const int64_t f = attrs.integer(0);
        const Picture p = picture(in[0].shape());
        return Tensors{rearranged(in[0], with(p.batch, {p.channels, p.height / f, f, p.width / f, f}), {0, 2, 4, 1, 3},
                                  with(p.batch, {p.channels * f * f, p.height / f, p.width / f}))};
      }},
      .gradient = GradientOfBody{},
      .batching = LeadingAxes{},
      .samples = [] { return std::vector<Sample>{{{{{2, 2, 4, 6}}}, {int64_t{2}}}, {{{{1, 3, 6}}}, {int64_t{3}}}}; },
      .invalid_samples =
          [] {
            return std::vector<InvalidSample>{{{{{1, 1, 3, 4}}}, {int64_t{2}}, "do not divide"},
                                              {{{{1, 1, 4, 4}}}, {int64_t{-1}}, "too small"},
                                              {{{{4, 2}}}, {int64_t{2}}, "wrong rank"}};
          }};
  return def;
}

const OpDef& channel_shuffle_op() {
  static const OpDef def{
      .name = "channel_shuffle",
      .doc = "x [N, C, …] with its channels dealt out: channel i of group g comes to place g of group i.",
      .inputs = {{"x", kAny}},
      .attrs = {{"groups", 1, ir::AttrType::Int}},
      .infer =
          [](const InferArgs& a) {
            expect_rank(a, 0, 2);
            const int64_t groups = a.attrs.integer(0);
            if (groups < 1 || a.in[0].shape[1] % groups != 0)
              fail_shape(a, "the channels do not divide into the groups",
                         fmt::format("a divisor of {}", a.in[0].shape[1]), std::to_string(groups));
            return infer_same(a);
          },
      .meaning = Composite{[](std::span<const Tensor> in, const ir::Attrs& attrs) {
        const Shape& shape = in[0].shape();
        const int64_t groups = attrs.integer(0);
        Shape apart{shape[0], groups, shape[1] / groups};
        for (size_t k = 2; k < shape.size(); ++k) apart.push_back(shape[k]);
        return Tensors{reshape(transpose(reshape(in[0], apart), 1, 2), shape)};
      }},
      .gradient = GradientOfBody{},
      .batching = BatchRule{batch_joins_examples},
      .samples = [] { return std::vector<Sample>{{{{{2, 6, 2}}}, {int64_t{3}}}, {{{{1, 4}}}, {int64_t{2}}}}; },
      .invalid_samples =
          [] {
            return std::vector<InvalidSample>{{{{{1, 6, 2}}}, {int64_t{4}}, "do not divide"},
                                              {{{{1, 6, 2}}}, {int64_t{0}}, "do not divide"},
                                              {{{{4}}}, {int64_t{2}}, "wrong rank"}};
          }};
  return def;
}

}  // namespace

std::vector<const OpDef*> patch_ops() {
  return {&sliding_window_op(), &unfold_op(),          &fold_op(),
          &pixel_shuffle_op(),  &pixel_unshuffle_op(), &channel_shuffle_op()};
}

}  // namespace ops

namespace {

ir::Attrs attrs_of(std::string_view where, const Ints& window, const UnfoldOptions& o) {
  const size_t rank = window.size();
  const auto each = [&](std::string_view option, const Ints& values) {
    return ops::for_each_axis(where, option, values, rank);
  };
  return {window, each("stride", o.stride), each("padding", o.padding),
          each("padding_high", o.padding_high.empty() ? o.padding : o.padding_high), each("dilation", o.dilation)};
}

// Runs `fn` on x with a batch axis: of `axes` axes or one less.
template <class F>
Tensor on_batch(std::string_view where, size_t axes, std::string_view shape, Tensor x, F&& fn) {
  const auto rank = static_cast<size_t>(x.ndim());
  if (rank != axes && rank + 1 != axes)
    throw ShapeError(
        {std::string(where), "input 'x' has the wrong rank", std::string(shape), to_string(x.shape()), {}});
  if (rank == axes) return fn(std::move(x));
  return squeeze(fn(unsqueeze(std::move(x), {0})), {0});
}

}  // namespace

Tensor sliding_window(Tensor x, int64_t axis, int64_t size, int64_t step) {
  return ops::call1(ops::sliding_window_op(), {std::move(x)}, {axis, size, step});
}

Tensor unfold(Tensor x, const Ints& window, const UnfoldOptions& options) {
  const ir::Attrs attrs = attrs_of("unfold", window, options);
  return on_batch("unfold", window.size() + 2, fmt::format("[N, C, spatial…] with {} spatial axes", window.size()),
                  std::move(x), [&](Tensor batch) { return ops::call1(ops::unfold_op(), {std::move(batch)}, attrs); });
}

Tensor fold(Tensor x, const Ints& extents, const Ints& window, const UnfoldOptions& options) {
  const ir::Attrs w = attrs_of("fold", window, options);
  return on_batch("fold", 3, "[N, C * elements of the window, windows]", std::move(x), [&](Tensor batch) {
    return ops::call1(ops::fold_op(), {std::move(batch)}, {w[0], w[1], w[2], w[3], w[4], extents});
  });
}

Tensor pixel_shuffle(Tensor x, int64_t factor) { return ops::call1(ops::pixel_shuffle_op(), {std::move(x)}, {factor}); }
Tensor pixel_unshuffle(Tensor x, int64_t factor) {
  return ops::call1(ops::pixel_unshuffle_op(), {std::move(x)}, {factor});
}
Tensor channel_shuffle(Tensor x, int64_t groups) {
  return ops::call1(ops::channel_shuffle_op(), {std::move(x)}, {groups});
}

}  // namespace tenon
