// Made of takes of whole rows of channels, one for each element around a position, and their weights.
#include "tenon/ops/grid_sample.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "tenon/base/error.h"
#include "tenon/ops/batching.h"
#include "tenon/ops/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/window.h"

namespace tenon {
namespace ops {
namespace {

constexpr std::array<std::string_view, 3> kModes{"linear", "nearest", "cubic"};
constexpr std::array<std::string_view, 3> kPaddings{"zeros", "border", "reflection"};
enum Attr : uint8_t { kMode, kPadding, kCorners };

// Half precision cannot say where in a picture a position is.
DType work_dtype(DType t) { return t == DType::F64 ? DType::F64 : DType::F32; }

// Back into [low, high] by mirroring at the ends.
Tensor reflected(const Tensor& x, double low, double high) {
  const double span = high - low;
  if (span == 0) return zeros_like(x);
  const Tensor d = abs(x - low), folded = fmod(d, span);
  const Tensor turns = remainder(floor(d / span), 2);
  return where(equal(turns, 0), folded + low, high - folded);
}

class GridSampler {
 public:
  GridSampler(const Tensor& x, const ir::Attrs& attrs)
      : mode_(attrs.text(kMode)), padding_(attrs.text(kPadding)), corners_(attrs.flag(kCorners)) {
    extents_ = spatial(x.shape());
    examples_ = x.shape(0);
    channels_ = x.shape(1);
    rows_ = reshape(moveaxis(x, 1, -1), {examples_ * numel(extents_), channels_});
    // One more row, for what lies outside.
    if (padding_ == "zeros") rows_ = concat({rows_, zeros({1, channels_}, x.dtype())});
  }

  // grid: [N, out…, axes], the last axis of x first.
  Tensor operator()(const Tensor& grid) const {
    Tensors at;
    const auto axes = static_cast<int64_t>(extents_.size());
    for (int64_t k = 0; k < axes; ++k) {
      const Tensor g = select(grid, -1, axes - 1 - k);
      const auto extent = static_cast<double>(extents_[static_cast<size_t>(k)]);
      Tensor p = corners_ ? (g + 1) * ((extent - 1) / 2) : ((g + 1) * extent - 1) * 0.5;
      if (mode_ != "cubic") p = bounded(p, static_cast<size_t>(k));
      at.push_back(mode_ == "nearest" ? round(p) : p);
    }
    Tensor y;
    if (mode_ == "nearest") {
      y = row_at(at);
    } else if (mode_ == "linear") {
      y = mix(at, 0, 1, [](const Tensor& f, int64_t tap) { return tap == 0 ? 1 - f : f; });
    } else {
      y = mix(at, -1, 2, cubic_weight);
    }
    Shape shape(grid.shape().begin(), grid.shape().end() - 1);
    shape.push_back(channels_);
    return moveaxis(reshape(y, shape), -1, 1);
  }

 private:
  // What padding makes of a position on axis k.
  [[nodiscard]] Tensor bounded(const Tensor& p, size_t k) const {
    const auto extent = static_cast<double>(extents_[k]);
    if (padding_ == "zeros") return p;
    const Tensor inside = padding_ == "border" ? p
                          : corners_           ? reflected(p, 0, extent - 1)
                                               : reflected(p, -0.5, extent - 0.5);
    return minimum(maximum(inside, 0), extent - 1);
  }

  static Tensor cubic_weight(const Tensor& f, int64_t tap) {
    const double a = -0.75;
    const Tensor d = abs(f - static_cast<double>(tap));
    return tap == 0 || tap == 1 ? ((a + 2) * d - (a + 3)) * d * d + 1 : ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
  }

  // Sum over the elements around: along each axis those from `first` to `last` of the one below.
  template <class Weight>
  [[nodiscard]] Tensor mix(const Tensors& at, int64_t first, int64_t last, const Weight& weight) const {
    const int64_t taps = last - first + 1;
    int64_t combinations = 1;
    Tensors below, fraction;
    for (const Tensor& p : at) {
      below.push_back(floor(p.detach()));
      fraction.push_back(p - below.back());
      combinations *= taps;
    }
    Tensor total;
    for (int64_t n = 0; n < combinations; ++n) {
      Tensors place;
      Tensor w;
      int64_t rest = n;
      for (size_t k = 0; k < at.size(); ++k) {
        const int64_t tap = first + rest % taps;
        rest /= taps;
        const Tensor factor = weight(fraction[k], tap);
        w = w.defined() ? w * factor : factor;
        const Tensor p = below[k] + static_cast<double>(tap);
        place.push_back(mode_ == "cubic" ? bounded(p, k) : p);
      }
      Tensor part = row_at(place) * reshape(w, {w.size(), 1});
      total = total.defined() ? std::move(total) + std::move(part) : std::move(part);
    }
    return total;
  }

  // The channels at whole positions [N, out…], as rows [N * out, C].
  [[nodiscard]] Tensor row_at(const Tensors& place) const {
    Shape column(place[0].shape().size(), 1);
    column[0] = examples_;
    Tensor index = reshape(arange(examples_), column), inside;
    for (size_t k = 0; k < place.size(); ++k) {
      const Tensor p = place[k].detach();
      const double last = static_cast<double>(extents_[k]) - 1;
      if (padding_ == "zeros") {
        const Tensor here = logical_and(p >= 0, p <= last);
        inside = inside.defined() ? logical_and(inside, here) : here;
      }
      index = index * extents_[k] + cast(minimum(maximum(p, 0), last), i64);
    }
    if (inside.defined()) index = where(inside, index, examples_ * numel(extents_));
    return take(rows_, flatten(index), 0);
  }

  std::string mode_, padding_;
  bool corners_;
  Ints extents_;
  int64_t examples_ = 0, channels_ = 0;
  Tensor rows_;
};

std::vector<TensorType> infer_grid_sample(const InferArgs& a) {
  expect_rank(a, 0, 3, 5);
  const Shape &x = a.in[0].shape, &grid = a.in[1].shape;
  const auto axes = static_cast<int64_t>(x.size()) - 2;
  if (grid.size() != x.size() || grid[0] != x[0] || grid.back() != axes)
    fail_shape(a, "the grid does not fit x", fmt::format("[{}, out…, {}] with {} axes", x[0], axes, x.size()),
               to_string(grid));
  Shape shape{x[0], x[1]};
  for (size_t k = 1; k + 1 < grid.size(); ++k) shape.push_back(grid[k]);
  if (numel(spatial(x)) == 0 && numel(shape) > 0)
    fail_shape(a, "x has nothing to read", "spatial extents of at least 1", to_string(x));
  if (std::find(kModes.begin(), kModes.end(), a.attrs.text(kMode)) == kModes.end())
    fail_value(a, "unknown mode", "linear, nearest or cubic", a.attrs.text(kMode));
  if (std::find(kPaddings.begin(), kPaddings.end(), a.attrs.text(kPadding)) == kPaddings.end())
    fail_value(a, "unknown padding", "zeros, border or reflection", a.attrs.text(kPadding));
  return {{a.in[0].dtype, shape}};
}

// The homogeneous coordinates of each place of a result with these extents, [places, axes + 1].
Tensor places_of(const Ints& extents, bool corners, DType dtype) {
  const size_t axes = extents.size();
  const auto count = numel(extents);
  std::vector<double> points;
  for (int64_t i = 0; i < count; ++i) {
    int64_t rest = i;
    for (size_t k = axes; k-- > 0;) {
      const auto at = static_cast<double>(rest % extents[k]), n = static_cast<double>(extents[k]);
      rest /= extents[k];
      points.push_back(!corners ? (2 * at + 1) / n - 1 : extents[k] == 1 ? 0 : 2 * at / (n - 1) - 1);
    }
    points.push_back(1);
  }
  return cast(from_vector(points, {count, static_cast<int64_t>(axes) + 1}), dtype);
}

}  // namespace

const OpDef& grid_sample_op() {
  static const OpDef def{
      .name = "grid_sample",
      .doc =
          "x [N, C, spatial…] read at the positions of a grid [N, out…, axes], which run from -1 to 1 with the last "
          "axis "
          "first: the nearest element, or the elements around weighted (linear; cubic, Keys 1981). Beyond the ends are "
          "zeros, the last element (border) or the elements mirrored (reflection).",
      .inputs = {{"x", kFloats}, {"grid", kFloats}},
      .attrs = {{"mode", 1, ir::AttrType::Text, "linear, nearest or cubic"},
                {"padding", 2, ir::AttrType::Text, "zeros, border or reflection"},
                {"align_corners", 3, ir::AttrType::Flag, "-1 and 1 are the middles of the corner elements"}},
      .promote = kPromoteAll,
      .infer = infer_grid_sample,
      .meaning = Composite{[](std::span<const Tensor> in, const ir::Attrs& attrs) {
        const DType work = work_dtype(in[0].dtype());
        return Tensors{cast(GridSampler(cast(in[0], work), attrs)(cast(in[1], work)), in[0].dtype())};
      }},
      .gradient = GradientOfBody{},
      .batching = BatchRule{batch_joins_examples},
      .samples =
          [] {
            // Positions inside cells, away from the kinks between them.
            const SampleInput grid{.shape = {2, 2, 2, 2},
                                   .values = {-0.9, -0.8, 0.13, 0.4, 0.95, -0.35, -1.3, 0.7, 0.31, -0.6, -0.12, 0.18,
                                              1.2, 1.3, 0.55, -0.95}};
            std::vector<Sample> s;
            for (const char* padding : {"zeros", "border", "reflection"}) {
              s.push_back({{{{2, 3, 3, 4}}, grid}, {std::string("linear"), std::string(padding), false}});
              s.push_back({{{{2, 1, 4, 3}}, grid}, {std::string("cubic"), std::string(padding), true}});
            }
            s.push_back({{{{2, 2, 3, 4}}, grid}, {std::string("nearest"), std::string("zeros"), false}});
            s.push_back({{{{1, 2, 5}}, {{1, 3, 1}, 0, 0, {-0.75, 0.1, 0.9}}},
                         {std::string("linear"), std::string("zeros"), true},
                         "1-d"});
            s.push_back({{{{1, 2, 2, 3, 2}}, {{1, 1, 1, 2, 3}, 0, 0, {-0.3, 0.2, 0.61, 0.44, -0.83, -0.17}}},
                         {std::string("linear"), std::string("border"), false},
                         "3-d"});
            return s;
          },
      .invalid_samples =
          [] {
            const std::string linear = "linear", zeros = "zeros";
            return std::vector<InvalidSample>{
                {{{{2, 1, 3, 3}}, {{2, 4, 4, 3}}}, {linear, zeros, false}, "the grid does not fit x"},
                {{{{2, 1, 3, 3}}, {{1, 4, 4, 2}}}, {linear, zeros, false}, "the grid does not fit x"},
                {{{{2, 3}}, {{2, 1}}}, {linear, zeros, false}, "wrong rank"},
                {{{{1, 1, 0, 3}}, {{1, 4, 4, 2}}}, {linear, zeros, false}, "nothing to read"},
                {{{{1, 1, 3, 3}}, {{1, 4, 4, 2}}}, {std::string("quintic"), zeros, false}, "unknown mode"},
                {{{{1, 1, 3, 3}}, {{1, 4, 4, 2}}}, {linear, std::string("wrap"), false}, "unknown padding"}};
          },
      .tolerance = {32, 1e-5}};
  return def;
}

const OpDef& affine_grid_op() {
  static const OpDef def{
      .name = "affine_grid",
      .doc =
          "The positions (from -1 to 1, last axis first) at which each place of a picture reads after an affine map "
          "theta [N, k, k + 1]: [N, extents…, k], for grid_sample.",
      .inputs = {{"theta", kFloats}},
      .attrs = {{"extents", 1, ir::AttrType::IntList, "of the picture's spatial axes"},
                {"align_corners", 2, ir::AttrType::Flag, "-1 and 1 are the middles of the corner elements"}},
      .infer =
          [](const InferArgs& a) {
            expect_rank(a, 0, 3, 3);
            const Ints& extents = a.attrs.ints(0);
            const auto axes = static_cast<int64_t>(extents.size());
            const Shape& theta = a.in[0].shape;
            if (theta[1] != axes || theta[2] != axes + 1)
              fail_shape(a, fmt::format("theta is not a map of {} axes", axes),
                         fmt::format("[N, {}, {}]", axes, axes + 1), to_string(theta));
            Shape shape{theta[0]};
            for (int64_t d : extents) {
              if (d < 1) fail_value(a, "an extent is too small", "at least 1", to_string(extents));
              shape.push_back(d);
            }
            shape.push_back(axes);
            expect_countable(a, shape);
            return std::vector<TensorType>{{a.in[0].dtype, shape}};
          },
      .meaning = Composite{[](std::span<const Tensor> in, const ir::Attrs& attrs) {
        const Tensor& theta = in[0];
        const DType work = work_dtype(theta.dtype());
        const Ints& extents = attrs.ints(0);
        Shape shape{theta.shape(0)};
        for (int64_t d : extents) shape.push_back(d);
        shape.push_back(static_cast<int64_t>(extents.size()));
        const Tensor places = matmul(places_of(extents, attrs.flag(1), work), transpose(cast(theta, work)));
        return Tensors{cast(reshape(places, shape), theta.dtype())};
      }},
      .gradient = GradientOfBody{},
      .batching = BatchRule{batch_joins_examples},
      .samples =
          [] {
            return std::vector<Sample>{{{{{2, 2, 3}}}, {Ints{3, 4}, false}},
                                       {{{{1, 2, 3}}}, {Ints{2, 1}, true}, "corners"},
                                       {{{{2, 3, 4}}}, {Ints{2, 1, 3}, false}, "3-d"}};
          },
      .invalid_samples =
          [] {
            return std::vector<InvalidSample>{{{{{2, 2, 2}}}, {Ints{3, 4}, false}, "not a map of 2 axes"},
                                              {{{{2, 3}}}, {Ints{3, 4}, false}, "wrong rank"},
                                              {{{{2, 2, 3}}}, {Ints{3, 0}, false}, "too small"}};
          },
      .tolerance = {16, 1e-5}};
  return def;
}

std::vector<const OpDef*> grid_sample_ops() { return {&grid_sample_op(), &affine_grid_op()}; }

}  // namespace ops

Tensor grid_sample(Tensor x, Tensor grid, const GridSampleOptions& options) {
  return ops::call1(ops::grid_sample_op(), {std::move(x), std::move(grid)},
                    {std::string(ops::kModes[static_cast<size_t>(options.mode)]),
                     std::string(ops::kPaddings[static_cast<size_t>(options.padding)]), options.align_corners});
}

Tensor affine_grid(Tensor theta, const Shape& size, bool align_corners) {
  if (size.size() < 3 || theta.ndim() < 1 || theta.shape(0) != size[0])
    throw ShapeError({"affine_grid",
                      "theta does not fit the size",
                      "theta [N, k, k + 1], size [N, C, spatial…]",
                      to_string(theta.shape()) + " and " + to_string(size),
                      {}});
  return ops::call1(ops::affine_grid_op(), {std::move(theta)}, {ops::spatial(size), align_corners});
}

}  // namespace tenon
