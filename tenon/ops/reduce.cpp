// Reductions. To add one: a definition, a line in reduce_ops(), a function at the end, its declaration in reduce.h.
#include "tenon/ops/reduce.h"

#include <cmath>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/movement.h"

namespace tenon {
namespace ops {
namespace {

const std::vector<AttrSpec> kReduceAttrs{{"axes", 1, ir::AttrType::IntList, "axes to combine; empty means all"},
                                         {"keepdims", 2, ir::AttrType::Flag, "keep each with extent 1"}};

struct Spec {
  std::string_view name, doc;
  ReduceKind kind;
  Gradient gradient;
  DTypeSet dtypes = kCompute;
  bool distinct = false;
  double low = -2, high = 2;
  AutocastRule autocast = AutocastRule::Keep;
};

OpDef reduction_def(const Spec& spec) {
  OpDef def;
  def.name = spec.name;
  def.doc = spec.doc;
  def.inputs = {{"x", spec.dtypes}};
  def.attrs = kReduceAttrs;
  def.autocast = spec.autocast;
  def.meaning = Reduction{spec.kind};
  def.gradient = spec.gradient;
  def.batching = Broadcasts{};
  def.sample_low = spec.low;
  def.sample_high = spec.high;
  def.sample_distinct = spec.distinct;
  return def;
}

// What was reduced, back with extent 1, so that it broadcasts against the input.
Tensor restore(const Tensor& y, const TensorType& in, const ir::Attrs& attrs) {
  const Ints axes = reduction_axes("reduce", attrs.ints(0), static_cast<int64_t>(in.shape.size()));
  return reshape(y, reduced_shape(in.shape, axes, !axes.empty()));
}

const OpDef& sum_op() {
  static const OpDef def =
      reduction_def({"sum", "The sum along axes.", ReduceKind::Sum, Vjp{[](const VjpArgs& a) {
                       return Tensors{expand(restore(a.ct[0], a.in_types[0], a.attrs), a.in_types[0].shape)};
                     }},
                     kCompute, false, -2, 2, AutocastRule::Full});
  return def;
}

const OpDef& prod_op() {
  static const OpDef def = reduction_def(
      {"prod", "The product along axes. The gradient holds with zeros among the elements.", ReduceKind::Prod,
       Vjp{[](const VjpArgs& a) {
             // The product of the others: by division where nothing is 0; with one zero, only that element has a
             // gradient.
             const Tensor& x = a.in[0];
             const Tensor is_zero = equal(x, 0);
             const Ints& axes = a.attrs.ints(0);
             const Tensor zeros_count = sum(is_zero, axes, true);
             const Tensor safe = where(is_zero, 1, x);
             const Tensor others = prod(safe, axes, true);
             const Tensor factor = where(equal(zeros_count, 0), others / safe,
                                         where(logical_and(equal(zeros_count, 1), is_zero), others, 0));
             return Tensors{restore(a.ct[0], a.in_types[0], a.attrs) * factor};
           },
           bit(0), 0},
       kCompute, false, 0.5, 1.5, AutocastRule::Full});
  return def;
}

Tensors share_among_winners(const VjpArgs& a) {
  const Tensor hit = cast(equal(a.in[0], restore(a.out[0], a.in_types[0], a.attrs)), a.in_types[0].dtype);
  const Tensor share = hit / sum(hit, a.attrs.ints(0), true);
  return {restore(a.ct[0], a.in_types[0], a.attrs) * share};
}

const OpDef& max_op() {
  static const OpDef def = reduction_def({"max", "The largest element along axes; NaN if any is NaN.", ReduceKind::Max,
                                          Vjp{share_among_winners, bit(0), bit(0)}, kCompute, true});
  return def;
}
const OpDef& min_op() {
  static const OpDef def = reduction_def({"min", "The smallest element along axes; NaN if any is NaN.", ReduceKind::Min,
                                          Vjp{share_among_winners, bit(0), bit(0)}, kCompute, true});
  return def;
}
const OpDef& any_op() {
  static const OpDef def = reduction_def({"any", "Whether any element along axes is not 0.", ReduceKind::Any,
                                          NoGradient{"the result is a truth value"}, kCompute, false, -0.5, 1});
  return def;
}
const OpDef& all_op() {
  static const OpDef def = reduction_def({"all", "Whether no element along axes is 0.", ReduceKind::All,
                                          NoGradient{"the result is a truth value"}, kCompute, false, -0.5, 1});
  return def;
}
const OpDef& argmax_op() {
  static const OpDef def =
      reduction_def({"argmax", "The position of the first largest element (NaN counts as largest).", ReduceKind::ArgMax,
                     NoGradient{"the result is a position"}, kCompute, true});
  return def;
}
const OpDef& argmin_op() {
  static const OpDef def =
      reduction_def({"argmin", "The position of the first smallest element (NaN counts as smallest).",
                     ReduceKind::ArgMin, NoGradient{"the result is a position"}, kCompute, true});
  return def;
}

int64_t reduced_count(const Tensor& x, const Ints& axes) {
  int64_t n = 1;
  for (int64_t axis : axes) n *= x.shape()[static_cast<size_t>(axis)];
  return n;
}

std::vector<TensorType> infer_float_reduction(const InferArgs& args) {
  const Ints axes = reduction_axes(args.op.name, args.attrs.ints(0), static_cast<int64_t>(args.in[0].shape.size()));
  return {{args.in[0].dtype, reduced_shape(args.in[0].shape, axes, args.attrs.flag(1))}};
}

OpDef composite_reduction(std::string_view name, std::string_view doc,
                          Tensors (*body)(std::span<const Tensor>, const ir::Attrs&), std::vector<AttrSpec> more = {}) {
  OpDef def;
  def.name = name;
  def.doc = doc;
  def.inputs = {{"x", kFloats}};
  def.attrs = kReduceAttrs;
  def.attrs.insert(def.attrs.end(), more.begin(), more.end());
  def.promote = kPromoteToFloat;
  def.infer = infer_float_reduction;
  def.meaning = Composite{body};
  def.gradient = GradientOfBody{};
  def.batching = BatchBody{};
  def.tolerance = {16, 1e-5};
  return def;
}

const OpDef& mean_op() {
  static const OpDef def = [] {
    OpDef d = composite_reduction(
        "mean", "The arithmetic mean along axes.", [](std::span<const Tensor> in, const ir::Attrs& attrs) {
          const Ints axes = reduction_axes("mean", attrs.ints(0), in[0].ndim());
          return Tensors{sum(in[0], axes, attrs.flag(1)) / static_cast<double>(reduced_count(in[0], axes))};
        });
    d.samples = [] {
      return std::vector<Sample>{
          {{{{2, 3}}}, {Ints{}, false}}, {{{{2, 3, 4}}}, {Ints{1}, true}}, {{{{2, 3, 4}}}, {Ints{0, -1}, false}}};
    };
    return d;
  }();
  return def;
}

const OpDef& var_op() {
  static const OpDef def = [] {
    OpDef d = composite_reduction(
        "var", "The mean squared distance from the mean along axes, over the count less `correction`.",
        [](std::span<const Tensor> in, const ir::Attrs& attrs) {
          const Ints axes = reduction_axes("var", attrs.ints(0), in[0].ndim());
          const Tensor centred = in[0] - mean(in[0], axes, true);
          const double count = static_cast<double>(reduced_count(in[0], axes) - attrs.integer(2));
          return Tensors{sum(square(centred), axes, attrs.flag(1)) / (count < 0 ? 0.0 : count)};
        },
        {{"correction", 3, ir::AttrType::Int, "subtracted from the count"}});
    d.samples = [] {
      return std::vector<Sample>{{{{{2, 3}}}, {Ints{}, false, int64_t{1}}},
                                 {{{{2, 3, 4}}}, {Ints{1}, true, int64_t{0}}}};
    };
    return d;
  }();
  return def;
}

const OpDef& logsumexp_op() {
  static const OpDef def = [] {
    OpDef d = composite_reduction(
        "logsumexp", "log(sum(exp(x))) along axes without overflow.",
        [](std::span<const Tensor> in, const ir::Attrs& attrs) {
          const Ints axes = reduction_axes("logsumexp", attrs.ints(0), in[0].ndim());
          const auto finish = [&](const Tensor& y) {
            return Tensors{attrs.flag(1) ? y : reshape(y, reduced_shape(in[0].shape(), axes, false))};
          };
          if (reduced_count(in[0], axes) == 0)  // nothing adds up to 0
            return finish(log(sum(exp(in[0]), axes, true)));
          // The shift does not change the result, so it takes no part in the gradient. Infinite
          // maxima shift by 0.
          const Tensor top = max(in[0].detach(), axes, true);
          const Tensor shift = where(isfinite(top), top, 0);
          return finish(log(sum(exp(in[0] - shift), axes, true)) + shift);
        });
    d.autocast = AutocastRule::Full;
    d.gradient = Vjp{[](const VjpArgs& a) {
                       return Tensors{restore(a.ct[0], a.in_types[0], a.attrs) *
                                      exp(a.in[0] - restore(a.out[0], a.in_types[0], a.attrs))};
                     },
                     bit(0), bit(0)};
    d.samples = [] {
      return std::vector<Sample>{
          {{{{2, 3}}}, {Ints{}, false}}, {{{{2, 3, 4}}}, {Ints{1}, true}}, {{{{2, 3, 4}}}, {Ints{-1}, false}}};
    };
    return d;
  }();
  return def;
}

// Where the norm is 0, so is the gradient: one of the subgradients, and PyTorch's choice.
Tensors norm_vjp(const VjpArgs& a) {
  const Tensor& x = a.in[0];
  const double p = a.attrs.real(2);
  if (p == 0) return {Tensor()};
  const Tensor ct = restore(a.ct[0], a.in_types[0], a.attrs);
  if (p == 1) return {ct * sign(x)};
  const Tensor norm = restore(a.out[0], a.in_types[0], a.attrs);
  if (std::isinf(p)) {
    const Tensor hit = cast(equal(abs(x), norm), x.dtype());
    return {ct * sign(x) * (hit / sum(hit, a.attrs.ints(0), true))};
  }
  const Tensor safe = where(equal(norm, 0), 1, norm);
  if (p == 2) return {x * (ct / safe)};
  const Tensor zero = equal(x, 0);
  return {where(zero, 0, ct * sign(x) * power(where(zero, 1, abs(x)) / safe, p - 1))};
}

const OpDef& norm_op() {
  static const OpDef def = [] {
    OpDef d = composite_reduction("norm",
                                  "(sum |x|^p)^(1/p) along axes; p may be infinity, or 0 for the number of non-zeros.",
                                  [](std::span<const Tensor> in, const ir::Attrs& attrs) {
                                    const Ints axes = reduction_axes("norm", attrs.ints(0), in[0].ndim());
                                    const bool keep = attrs.flag(1);
                                    const double p = attrs.real(2);
                                    const Tensor& x = in[0];
                                    if (p == 2) return Tensors{sqrt(sum(square(x), axes, keep))};
                                    if (p == 1) return Tensors{sum(abs(x), axes, keep)};
                                    if (p == 0) return Tensors{cast(sum(not_equal(x, 0), axes, keep), x.dtype())};
                                    if (std::isinf(p))
                                      return Tensors{p > 0 ? max(abs(x), axes, keep) : min(abs(x), axes, keep)};
                                    return Tensors{power(sum(power(abs(x), p), axes, keep), 1 / p)};
                                  },
                                  {{"p", 3, ir::AttrType::Real, "the exponent"}});
    d.autocast = AutocastRule::Full;
    d.gradient = Vjp{norm_vjp, bit(0), bit(0)};
    d.samples = [] {
      std::vector<Sample> s;
      for (double p : {2.0, 1.0, 3.0, double(INFINITY)})
        s.push_back({{{{2, 3}, 0.2, 2, {}, -1, true}}, {Ints{1}, false, p}});
      return s;
    };
    return d;
  }();
  return def;
}

}  // namespace

std::vector<const OpDef*> reduce_ops() {
  return {&sum_op(),    &prod_op(),   &max_op(),  &min_op(), &any_op(),       &all_op(),
          &argmax_op(), &argmin_op(), &mean_op(), &var_op(), &logsumexp_op(), &norm_op()};
}

}  // namespace ops

using ops::call1;

Tensor sum(Tensor x, const Ints& axes, bool keepdims) { return call1(ops::sum_op(), {std::move(x)}, {axes, keepdims}); }
Tensor prod(Tensor x, const Ints& axes, bool keepdims) {
  return call1(ops::prod_op(), {std::move(x)}, {axes, keepdims});
}
Tensor max(Tensor x, const Ints& axes, bool keepdims) { return call1(ops::max_op(), {std::move(x)}, {axes, keepdims}); }
Tensor min(Tensor x, const Ints& axes, bool keepdims) { return call1(ops::min_op(), {std::move(x)}, {axes, keepdims}); }
Tensor any(Tensor x, const Ints& axes, bool keepdims) { return call1(ops::any_op(), {std::move(x)}, {axes, keepdims}); }
Tensor all(Tensor x, const Ints& axes, bool keepdims) { return call1(ops::all_op(), {std::move(x)}, {axes, keepdims}); }
Tensor argmax(Tensor x, int64_t axis, bool keepdims) {
  return call1(ops::argmax_op(), {std::move(x)}, {Ints{axis}, keepdims});
}
Tensor argmin(Tensor x, int64_t axis, bool keepdims) {
  return call1(ops::argmin_op(), {std::move(x)}, {Ints{axis}, keepdims});
}
Tensor mean(Tensor x, const Ints& axes, bool keepdims) {
  return call1(ops::mean_op(), {std::move(x)}, {axes, keepdims});
}
Tensor var(Tensor x, const Ints& axes, bool keepdims, int64_t correction) {
  return call1(ops::var_op(), {std::move(x)}, {axes, keepdims, correction});
}
Tensor std(Tensor x, const Ints& axes, bool keepdims, int64_t correction) {
  return sqrt(var(std::move(x), axes, keepdims, correction));
}
Tensor stddev(Tensor x, const Ints& axes, bool keepdims, int64_t correction) {
  return tenon::std(std::move(x), axes, keepdims, correction);
}
Tensor logsumexp(Tensor x, const Ints& axes, bool keepdims) {
  return call1(ops::logsumexp_op(), {std::move(x)}, {axes, keepdims});
}
Tensor norm(Tensor x, double p, const Ints& axes, bool keepdims) {
  return call1(ops::norm_op(), {std::move(x)}, {axes, keepdims, p});
}

Tensor sum_to(Tensor x, const Shape& shape) {
  if (x.shape() == shape) return x;
  const size_t lead = x.shape().size() - shape.size();
  Ints axes;
  for (size_t i = 0; i < x.shape().size(); ++i) {
    if (i < lead || (shape[i - lead] == 1 && x.shape()[i] != 1)) axes.push_back(static_cast<int64_t>(i));
  }
  if (!axes.empty()) x = sum(std::move(x), axes, false);
  return reshape(std::move(x), shape);
}

}  // namespace tenon
