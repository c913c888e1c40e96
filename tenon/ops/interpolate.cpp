// The op resamples one axis; the function goes over the axes. Few terms for each element (linear, cubic) are slices
// taken and weighted; many (a filter against aliases, means over areas) are a product with a matrix of weights.
#include "tenon/ops/interpolate.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "tenon/base/error.h"
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

// Sums of integers that f32 does not hold are made in f64.
DType work_dtype(DType t) { return t == DType::F64 || (is_integer(t) && info(t).bits > 16) ? DType::F64 : DType::F32; }

using Method = AxisInterpolation::Method;
using Rounding = AxisInterpolation::Rounding;
enum Attr : uint8_t { kAxis, kExtent, kMethod, kStep, kStart, kRounding, kCubic, kStretch, kExclude };
constexpr std::array<std::string_view, 4> kMethods{"nearest", "linear", "cubic", "area"};
constexpr std::array<std::string_view, 4> kRoundings{"floor", "ceil", "half_down", "half_up"};

size_t number_of(std::span<const std::string_view> names, std::string_view name) {
  return static_cast<size_t>(std::find(names.begin(), names.end(), name) - names.begin());
}
Method method_of(const ir::Attrs& attrs) { return static_cast<Method>(number_of(kMethods, attrs.text(kMethod))); }

struct Term {
  int64_t position;
  double weight;
};
using Terms = std::vector<Term>;  // of one new element

// Quotients that should be whole or a half may miss it by a rounding error, which must not choose the neighbour.
int64_t rounded(double position, const std::string& rounding) {
  const double near = std::round(2 * position) / 2;
  if (std::abs(position - near) < 1e-9 * std::max(1.0, std::abs(position))) position = near;
  switch (static_cast<Rounding>(number_of(kRoundings, rounding))) {
    case Rounding::Floor:
      return static_cast<int64_t>(std::floor(position));
    case Rounding::Ceil:
      return static_cast<int64_t>(std::ceil(position));
    case Rounding::HalfDown:
      return static_cast<int64_t>(std::ceil(position - 0.5));
    case Rounding::HalfUp:
      return static_cast<int64_t>(std::floor(position + 0.5));
  }
  throw InternalError("unknown rounding");
}

// Keys, "Cubic convolution interpolation for digital image processing", 1981.
double cubic_weight(double d, double a) {
  d = std::abs(d);
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  if (d < 2) return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
  return 0;
}

Terms filter_terms(double position, int64_t in, const ir::Attrs& attrs) {
  const bool cubic = method_of(attrs) == Method::Cubic, exclude = attrs.flag(kExclude);
  const double stretch = attrs.real(kStretch), support = (cubic ? 2 : 1) * stretch;
  Terms terms;
  double total = 0;
  const auto last = static_cast<int64_t>(std::ceil(position + support));
  for (auto k = static_cast<int64_t>(std::floor(position - support)); k <= last; ++k) {
    const double d = (static_cast<double>(k) - position) / stretch;
    const double w = cubic ? cubic_weight(d, attrs.real(kCubic)) : std::max(0.0, 1 - std::abs(d));
    if (w == 0 || (exclude && (k < 0 || k >= in))) continue;
    total += w;
    const int64_t p = std::clamp<int64_t>(k, 0, in - 1);
    if (!terms.empty() && terms.back().position == p) {
      terms.back().weight += w;
    } else {
      terms.push_back({p, w});
    }
  }
  // The plain filters add up to 1 as they are.
  if (stretch != 1 || exclude) {
    for (Term& t : terms) t.weight /= total;
  }
  return terms;
}

// What each new element is made of.
class AllTerms {
 public:
  AllTerms(int64_t in, const ir::Attrs& attrs)
      : in_(in), out_(attrs.integer(kExtent)), method_(method_of(attrs)), attrs_(attrs) {}

  [[nodiscard]] int64_t size() const { return out_; }
  [[nodiscard]] Terms operator[](int64_t o) const {
    // Farther out there is nothing new.
    const double reach = 2 * attrs_.real(kStretch) + 1;
    const double position = std::clamp(static_cast<double>(o) * attrs_.real(kStep) + attrs_.real(kStart), -reach,
                                       static_cast<double>(in_) + reach);
    if (method_ == Method::Nearest)
      return {{std::clamp<int64_t>(rounded(position, attrs_.text(kRounding)), 0, in_ - 1), 1}};
    if (method_ != Method::Area) return filter_terms(position, in_, attrs_);
    Terms terms;
    const int64_t first = o * in_ / out_, end = ((o + 1) * in_ + out_ - 1) / out_;
    for (int64_t i = first; i < end; ++i) terms.push_back({i, 1 / static_cast<double>(end - first)});
    return terms;
  }
  [[nodiscard]] size_t most() const {
    size_t count = 1;
    for (int64_t o = 0; o < out_; ++o) count = std::max(count, (*this)[o].size());
    return count;
  }

 private:
  int64_t in_, out_;
  Method method_;
  const ir::Attrs& attrs_;
};

// The k-th terms of all new elements; those that have fewer take their first with no weight.
struct Layer {
  Tensor positions;  // [out]
  Tensor weights;    // [out, 1, …], to meet the slices along the axis; undefined: all are 1
};
InterpolationTerms in_layers(const AllTerms& terms, size_t count) {
  const auto out = static_cast<size_t>(terms.size());
  InterpolationTerms all{count, std::vector<int64_t>(count * out), std::vector<double>(count * out)};
  for (size_t o = 0; o < out; ++o) {
    const Terms t = terms[static_cast<int64_t>(o)];
    const Term none{t.empty() ? 0 : t[0].position, 0};
    for (size_t k = 0; k < count; ++k) {
      const Term& term = k < t.size() ? t[k] : none;
      all.positions[k * out + o] = term.position;
      all.weights[k * out + o] = term.weight;
    }
  }
  return all;
}
std::vector<Layer> layers_of(const AllTerms& terms, size_t count, int64_t axes_after, DType dtype) {
  std::vector<Layer> layers;
  const int64_t out = terms.size();
  const InterpolationTerms all = in_layers(terms, count);
  for (size_t k = 0; k < count; ++k) {
    const auto first = static_cast<std::ptrdiff_t>(k) * out, end = first + out;
    const std::vector<int64_t> positions(all.positions.begin() + first, all.positions.begin() + end);
    const std::vector<double> weights(all.weights.begin() + first, all.weights.begin() + end);
    Shape column(static_cast<size_t>(axes_after) + 1, 1);
    column[0] = out;
    const bool plain = std::all_of(weights.begin(), weights.end(), [](double w) { return w == 1; });
    layers.push_back({from_vector(positions, {out}), plain ? Tensor() : cast(from_vector(weights, column), dtype)});
  }
  return layers;
}

Tensor weight_matrix(const AllTerms& terms, int64_t in, DType dtype) {
  const int64_t out = terms.size();
  std::vector<double> weights(static_cast<size_t>(in * out), 0);
  for (int64_t o = 0; o < out; ++o) {
    for (const Term& t : terms[o]) weights[static_cast<size_t>(t.position * out + o)] += t.weight;
  }
  return cast(from_vector(weights, {in, out}), dtype);
}

Tensor product_along(const Tensor& x, int64_t axis, const Tensor& matrix) {
  if (axis == x.ndim() - 1) return matmul(x, matrix);
  return moveaxis(matmul(moveaxis(x, axis, -1), matrix), -1, axis);
}

constexpr size_t kFewTerms = 4;
constexpr double kMostStretch = 1e6;  // terms are counted one by one
Tensors interpolate_body(std::span<const Tensor> in, const ir::Attrs& attrs) {
  const Tensor& x = in[0];
  const int64_t axis = normalize_axis("interpolate", attrs.integer(kAxis), x.ndim()), extent = x.shape(axis);
  const AllTerms terms(extent, attrs);
  const size_t count = terms.most();
  const DType work = work_dtype(x.dtype());
  const auto layers = count <= kFewTerms ? layers_of(terms, count, x.ndim() - 1 - axis, work) : std::vector<Layer>();
  if (count == 1 && !layers[0].weights.defined()) return {take(x, layers[0].positions, axis)};
  const Tensor wide = cast(x, work);
  Tensor y;
  if (layers.empty()) y = product_along(wide, axis, weight_matrix(terms, extent, work));
  for (const Layer& layer : layers) {
    Tensor part = take(wide, layer.positions, axis);
    if (layer.weights.defined()) part = std::move(part) * layer.weights;
    y = y.defined() ? std::move(y) + std::move(part) : std::move(part);
  }
  if (is_integer(x.dtype())) y = round(std::move(y));
  return {cast(std::move(y), x.dtype())};
}

// The transpose of the body, which is linear.
Tensors interpolate_vjp(const VjpArgs& a) {
  const TensorType& x = a.in_types[0];
  const auto rank = static_cast<int64_t>(x.shape.size());
  const int64_t axis = normalize_axis("interpolate", a.attrs.integer(kAxis), rank);
  const int64_t extent = x.shape[static_cast<size_t>(axis)];
  const AllTerms terms(extent, a.attrs);
  const size_t count = terms.most();
  const DType work = work_dtype(x.dtype);
  const Tensor ct = cast(a.ct[0], work);
  if (count > kFewTerms) return {product_along(ct, axis, transpose(weight_matrix(terms, extent, work)))};
  Tensor dx = zeros(x.shape, work);
  for (const Layer& layer : layers_of(terms, count, rank - 1 - axis, work))
    dx = index_add(std::move(dx), axis, layer.positions, layer.weights.defined() ? ct * layer.weights : ct);
  return {dx};
}

std::vector<TensorType> infer_interpolate(const InferArgs& a) {
  Shape shape = a.in[0].shape;
  const auto axis =
      static_cast<size_t>(normalize_axis(a.op.name, a.attrs.integer(kAxis), static_cast<int64_t>(shape.size())));
  const int64_t out = a.attrs.integer(kExtent);
  if (out < 0) fail_value(a, "the extent is negative", "0 or more", std::to_string(out));
  if (shape[axis] == 0 && out > 0)
    fail_shape(a, fmt::format("axis {} has no elements to make others of", axis), "an extent of at least 1", "0");
  if (number_of(kMethods, a.attrs.text(kMethod)) == kMethods.size())
    fail_value(a, "unknown method", "nearest, linear, cubic or area", a.attrs.text(kMethod));
  if (number_of(kRoundings, a.attrs.text(kRounding)) == kRoundings.size())
    fail_value(a, "unknown rounding", "floor, ceil, half_down or half_up", a.attrs.text(kRounding));
  if (!std::isfinite(a.attrs.real(kStep)) || !std::isfinite(a.attrs.real(kStart)))
    fail_value(a, "positions are not numbers", "a finite step and start",
               fmt::format("{} and {}", a.attrs.real(kStep), a.attrs.real(kStart)));
  if (!(a.attrs.real(kStretch) >= 1 && a.attrs.real(kStretch) <= kMostStretch))
    fail_value(a, "the filter cannot be stretched so", fmt::format("1 to {}", kMostStretch),
               fmt::format("{}", a.attrs.real(kStretch)));
  shape[axis] = out;
  expect_countable(a, shape);
  // Of means over areas, extents are multiplied.
  if (out > INT32_MAX || a.in[0].shape[axis] > INT32_MAX)
    fail_shape(a, "the extents are too large", std::to_string(INT32_MAX), to_string(shape));
  return {{a.in[0].dtype, shape}};
}

// As a sample: a new extent by half-pixel positions.
ir::Attrs halves(int64_t axis, int64_t in, int64_t out, std::string method, std::string rounding = "floor",
                 double stretch = 1) {
  const double step = static_cast<double>(in) / static_cast<double>(out);
  return {axis, out, std::move(method), step, step / 2 - 0.5, std::move(rounding), -0.5, stretch, stretch > 1};
}

}  // namespace

const OpDef& interpolate_op() {
  static const OpDef def{
      .name = "interpolate",
      .doc =
          "x resampled along one axis: element o of the result stands at o * step + start of x and is the nearest "
          "element, or a weighted sum of those around (linear; cubic, Keys 1981), or the mean of its share of the axis "
          "(area). The ends are repeated, or with `exclude_outside` left out of the weights.",
      .inputs = {{"x", kNumbers}},
      .attrs = {{"axis", 1, ir::AttrType::Int},
                {"extent", 2, ir::AttrType::Int, "of the result"},
                {"method", 3, ir::AttrType::Text, "nearest, linear, cubic or area"},
                {"step", 4, ir::AttrType::Real, "from one position to the next"},
                {"start", 5, ir::AttrType::Real, "the first position"},
                {"rounding", 6, ir::AttrType::Text, "of positions, for nearest: floor, ceil, half_down or half_up"},
                {"cubic_coefficient", 7, ir::AttrType::Real, "Keys' a"},
                {"stretch", 8, ir::AttrType::Real, "of the filter, against aliases"},
                {"exclude_outside", 9, ir::AttrType::Flag, "what lies beyond the ends has no weight"}},
      .infer = infer_interpolate,
      .meaning = Composite{interpolate_body},
      .gradient = Vjp{interpolate_vjp},
      .batching = BatchRule{[](const BatchArgs& a) {
        ir::Attrs attrs = a.attrs;
        attrs[kAxis] = normalize_axis(a.op.name, a.attrs.integer(kAxis), a.in[0].ndim() - 1) + 1;
        return call(a.op, {a.in[0]}, attrs);
      }},
      .samples =
          [] {
            return std::vector<Sample>{
                {{{{2, 5, 3}}}, halves(1, 5, 8, "nearest", "half_up"), "nearest"},
                {{{{2, 3, 4}}}, halves(-1, 4, 8, "linear"), "linear"},
                {{{{2, 4}}}, {int64_t{1}, int64_t{7}, "linear", 0.5, 0.0, "floor", -0.75, 1.0, false}, "corners"},
                {{{{2, 4, 2}}}, halves(1, 4, 2, "cubic"), "cubic"},
                {{{{2, 8}}}, halves(1, 8, 2, "linear", "floor", 4), "many terms"},
                {{{{2, 8, 2}}}, halves(1, 8, 4, "area"), "area"}};
          },
      .invalid_samples =
          [] {
            const auto with = [](size_t which, ir::AttrValue value) {
              ir::Attrs attrs = halves(1, 4, 8, "linear");
              attrs[which] = std::move(value);
              return attrs;
            };
            return std::vector<InvalidSample>{{{{{2, 4}}}, with(kAxis, int64_t{2}), "axis"},
                                              {{{{2, 4}}}, with(kExtent, int64_t{-1}), "extent is negative"},
                                              {{{{2, 0}}}, with(kExtent, int64_t{3}), "no elements"},
                                              {{{{2, 4}}}, with(kExtent, int64_t{1} << 40), "too large"},
                                              {{{{2, 4}}}, with(kExtent, int64_t{1} << 60), "more elements than fit"},
                                              {{{{2, 4}}}, with(kMethod, std::string("quadratic")), "unknown method"},
                                              {{{{2, 4}}}, with(kRounding, std::string("even")), "unknown rounding"},
                                              {{{{2, 4}}}, with(kStep, std::nan("")), "positions are not numbers"},
                                              {{{{2, 4}}}, with(kStretch, 0.5), "cannot be stretched"}};
          },
      .tolerance = {16, 1e-5}};
  return def;
}

std::optional<std::vector<int64_t>> interpolate_positions(int64_t extent, const ir::Attrs& attrs) {
  if (method_of(attrs) != Method::Nearest) return std::nullopt;
  const AllTerms terms(extent, attrs);
  std::vector<int64_t> positions;
  for (int64_t o = 0; o < terms.size(); ++o) positions.push_back(terms[o][0].position);
  return positions;
}

bool interpolates_by_few_terms(const ir::Attrs& attrs) {
  const Method method = method_of(attrs);
  return (method == Method::Linear || method == Method::Cubic) && attrs.real(kStretch) == 1;
}
std::optional<InterpolationTerms> interpolate_terms(int64_t extent, const ir::Attrs& attrs) {
  if (!interpolates_by_few_terms(attrs)) return std::nullopt;
  const AllTerms terms(extent, attrs);
  const size_t count = terms.most();
  if (count > kFewTerms) throw InternalError("a filter that is not stretched has more terms than it should");
  return in_layers(terms, count);
}

std::vector<const OpDef*> interpolate_ops() { return {&interpolate_op()}; }

}  // namespace ops

Tensor interpolate_axis(Tensor x, int64_t axis, const AxisInterpolation& how) {
  const std::string method(ops::kMethods[static_cast<size_t>(how.method)]);
  const std::string rounding(ops::kRoundings[static_cast<size_t>(how.rounding)]);
  return ops::call1(ops::interpolate_op(), {std::move(x)},
                    {axis, how.extent, method, how.step, how.start, rounding, how.cubic_coefficient, how.stretch,
                     how.exclude_outside});
}

namespace {

void check_options(const Tensor& x, const InterpolateOptions& o) {
  const std::string where = "interpolate";
  if (x.ndim() < 3)
    throw ShapeError({where, "input 'x' has no spatial axis", "[N, C, spatial…]", to_string(x.shape()), {}});
  if (o.size.empty() == o.scale.empty())
    throw ValueError({where, "the result's extents are not clear", "either 'size' or 'scale'",
                      o.size.empty() ? "neither" : "both", "interpolate(x, {.size = {64, 64}})"});
  const bool filters = o.mode == InterpolateMode::Linear || o.mode == InterpolateMode::Cubic;
  if ((o.align_corners || o.antialias) && !filters)
    throw ValueError({where,
                      fmt::format("'{}' has no meaning here", o.antialias ? "antialias" : "align_corners"),
                      "mode Linear or Cubic",
                      "another mode",
                      {}});
}

// New extents, and by how much each axis is meant to grow.
struct Target {
  Ints extents;
  std::vector<double> growth;
};
Target target_of(const Tensor& x, const InterpolateOptions& o) {
  const auto rank = static_cast<size_t>(x.ndim()) - 2;
  Target t;
  if (!o.size.empty()) t.extents = ops::for_each_axis("interpolate", "size", o.size, rank);
  if (!o.scale.empty() && o.scale.size() != rank && o.scale.size() != 1)
    throw ValueError({"interpolate",
                      fmt::format("'scale' does not fit {} spatial axes", rank),
                      rank == 1 ? std::string("1 number") : fmt::format("1 or {} numbers", rank),
                      fmt::format("{} numbers", o.scale.size()),
                      {}});
  for (size_t k = 0; k < rank; ++k) {
    const auto in = static_cast<double>(x.shape(static_cast<int64_t>(k) + 2));
    if (o.size.empty()) {
      const double scale = o.scale.size() == 1 ? o.scale[0] : o.scale[k];
      if (!(scale > 0) || std::isinf(scale))
        throw ValueError(
            {"interpolate", "'scale' is not a positive number", "more than 0", fmt::format("{}", scale), {}});
      if (in * scale > INT32_MAX)
        throw ValueError({"interpolate",
                          fmt::format("spatial axis {} would be too large", k),
                          fmt::format("an extent of at most {}", INT32_MAX),
                          fmt::format("{}", in * scale),
                          {}});
      t.growth.push_back(scale);
      t.extents.push_back(static_cast<int64_t>(std::floor(in * scale)));
    } else {
      t.growth.push_back(static_cast<double>(t.extents[k]) / in);
    }
    if (t.extents[k] < 1)
      throw ValueError({"interpolate",
                        fmt::format("spatial axis {} would be empty", k),
                        "an extent of at least 1",
                        std::to_string(t.extents[k]),
                        {}});
  }
  return t;
}

AxisInterpolation axis_of(int64_t in, int64_t out, double growth, const InterpolateOptions& o) {
  AxisInterpolation how{.extent = out, .step = 1 / growth};
  const double middles = how.step / 2 - 0.5;
  switch (o.mode) {
    case InterpolateMode::Nearest:
      how.method = AxisInterpolation::Method::Nearest;
      return how;
    case InterpolateMode::NearestExact:
      how.method = AxisInterpolation::Method::Nearest;
      how.rounding = AxisInterpolation::Rounding::HalfUp;
      how.start = middles;
      return how;
    case InterpolateMode::Area:
      how.method = AxisInterpolation::Method::Area;
      return how;
    case InterpolateMode::Linear:
      how.method = AxisInterpolation::Method::Linear;
      break;
    case InterpolateMode::Cubic:
      how.method = AxisInterpolation::Method::Cubic;
      how.cubic_coefficient = o.antialias ? -0.5 : -0.75;
      break;
  }
  if (o.antialias) {
    how.stretch = std::max(how.step, 1.0);
    how.exclude_outside = true;
  }
  how.start = middles;
  if (o.align_corners) {
    how.start = 0;
    how.step = out > 1 ? static_cast<double>(in - 1) / static_cast<double>(out - 1) : 0;
  }
  return how;
}

}  // namespace

Tensor interpolate(Tensor x, const InterpolateOptions& options) {
  check_options(x, options);
  const Target target = target_of(x, options);
  // Rounded once, after the last axis.
  const DType dtype = x.dtype();
  const bool weighs = options.mode != InterpolateMode::Nearest && options.mode != InterpolateMode::NearestExact;
  if (weighs) x = cast(std::move(x), ops::work_dtype(dtype));
  const Ints before = ops::spatial(x.shape());
  const size_t rank = before.size();
  // Growing starts with the last axis, where single elements move, and shrinking with the first.
  const bool grows = numel(target.extents) >= numel(before);
  for (size_t i = 0; i < rank; ++i) {
    const size_t k = grows ? rank - 1 - i : i;
    const AxisInterpolation how = axis_of(before[k], target.extents[k], target.growth[k], options);
    const bool same = how.extent == before[k] && how.step == 1 && how.start == 0 && how.stretch == 1;
    if (!same) x = interpolate_axis(std::move(x), static_cast<int64_t>(k) + 2, how);
  }
  if (weighs && is_integer(dtype)) x = round(std::move(x));
  return cast(std::move(x), dtype);
}

}  // namespace tenon
