#include "tenon/ops/loss.h"

#include <fmt/format.h>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/loss_reduce.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"
#include "tenon/ops/softmax.h"

namespace tenon {
namespace ops {
namespace {

constexpr int kI64 = static_cast<int>(DType::I64);
const std::vector<AttrSpec> kAttrs{
    {"ignore_index", 1, ir::AttrType::Int, "targets that count for nothing"},
    {"label_smoothing", 2, ir::AttrType::Real, "share of the target spread over all classes"}};

void check_classes(const InferArgs& a, size_t logits, size_t target) {
  expect_rank(a, logits, 2, 2);
  if (a.in[target].shape != Shape{a.in[logits].shape[0]})
    fail_shape(a, "there is not one target for each row of logits", fmt::format("[{}]", a.in[logits].shape[0]),
               to_string(a.in[target].shape));
  const double s = a.attrs.real(1);
  if (!(s >= 0 && s <= 1)) fail_value(a, "label_smoothing is not a share", "0 to 1", fmt::format("{}", s));
}

// The targets with the ignored ones at class 0, and which ones count. A negative number is no class, although it is a
// position: it goes beyond the last one, where reading is an error.
struct Targets {
  Tensor position;  // [N, 1]
  Tensor counts;    // bool [N]
};
Targets targets_of(const Tensor& target, int64_t classes, const ir::Attrs& attrs) {
  const Tensor counts = not_equal(target, attrs.integer(0));
  return {unsqueeze(where(counts, where(less(target, 0), classes, target), 0), {1}), counts};
}

}  // namespace

const OpDef& cross_entropy_grad_op() {
  static const OpDef def{
      .name = "cross_entropy_grad",
      .doc = "The cotangent of cross_entropy's logits from that of the losses.",
      .inputs = {{"ct", kFloats}, {"logits", kFloats}, {"target", kIndex}},
      .attrs = kAttrs,
      .infer =
          [](const InferArgs& a) {
            check_classes(a, 1, 2);
            return std::vector<TensorType>{a.in[1]};
          },
      .meaning = Composite{[](std::span<const Tensor> in, const ir::Attrs& attrs) {
        const Targets t = targets_of(in[2], in[1].shape(1), attrs);
        const double s = attrs.real(1);
        const int64_t classes = in[1].shape(1);
        const Tensor want =
            one_hot(squeeze(t.position, {1}), classes, in[1].dtype()) * (1 - s) + s / static_cast<double>(classes);
        return Tensors{(softmax(in[1], 1) - want) * unsqueeze(where(t.counts, in[0], 0), {1})};
      }},
      .takes = bit(1),  // row by row
      .gradient = GradientOfBody{},
      .batching = BatchBody{},
      .samples =
          [] { return std::vector<Sample>{{{{{3}}, {{3, 4}}, {{3}, 0, 0, {0, 3, 1}, kI64}}, {int64_t{-100}, 0.1}}}; },
      .tolerance = {32, 1e-5}};
  return def;
}

const OpDef& cross_entropy_op() {
  static const OpDef def{
      .name = "cross_entropy",
      .doc =
          "-log softmax(logits)[target] for each row; 0 where the target is ignore_index. Label smoothing spreads a "
          "share of the "
          "target evenly over all classes.",
      .inputs = {{"logits", kFloats}, {"target", kIndex}},
      .attrs = kAttrs,
      .promote = {1, true},
      .autocast = AutocastRule::Full,
      .infer =
          [](const InferArgs& a) {
            check_classes(a, 0, 1);
            return std::vector<TensorType>{{a.in[0].dtype, {a.in[0].shape[0]}}};
          },
      .meaning = Composite{[](std::span<const Tensor> in, const ir::Attrs& attrs) {
        const Targets t = targets_of(in[1], in[0].shape(1), attrs);
        const double s = attrs.real(1);
        const Tensor logp = log_softmax(in[0], 1);
        Tensor loss = squeeze(take_along_axis(logp, t.position, 1), {1}) * (s - 1);
        if (s != 0) loss = std::move(loss) - mean(logp, {1}) * s;
        return Tensors{where(t.counts, loss, 0)};
      }},
      .gradient = Vjp{[](const VjpArgs& a) {
                        return Tensors{call1(cross_entropy_grad_op(), {a.ct[0], a.in[0], a.in[1]}, a.attrs), Tensor()};
                      },
                      bit(0) | bit(1), 0},
      .batching = BatchBody{},
      .samples =
          [] {
            return std::vector<Sample>{{{{{3, 4}}, {{3}, 0, 0, {0, 3, 1}, kI64}}, {int64_t{-100}, 0.0}},
                                       {{{{3, 4}}, {{3}, 0, 0, {0, 9, 1}, kI64}}, {int64_t{9}, 0.1}}};
          },
      .invalid_samples =
          [] {
            return std::vector<InvalidSample>{
                {{{{3, 4}}, {{3}, 0, 0, {0, 4, 1}, kI64}}, {int64_t{-100}, 0.0}, "out of range"},
                {{{{3, 4}}, {{3}, 0, 0, {0, -1, 1}, kI64}}, {int64_t{-100}, 0.0}, "out of range"},
                {{{{3, 4}}, {{2}, 0, 0, {0, 1}, kI64}}, {int64_t{-100}, 0.0}, "one target"},
                {{{{3, 4}}, {{3}, 0, 0, {0, 1, 1}, kI64}}, {int64_t{-100}, 2.0}, "not a share"}};
          },
      .tolerance = {32, 1e-5}};
  return def;
}

const OpDef& nll_loss_op() {
  static const OpDef def{
      .name = "nll_loss",
      .doc =
          "-log_probabilities[target] for each row, times the weight of the target's class; 0 where the target is "
          "ignore_index.",
      .inputs = {{"log_probabilities", kFloats}, {"target", kIndex}, {"weight", kFloats, ArgKind::Optional}},
      .attrs = {{"ignore_index", 1, ir::AttrType::Int, "targets that count for nothing"}},
      .promote = {5, true},
      .autocast = AutocastRule::Full,
      .infer =
          [](const InferArgs& a) {
            expect_rank(a, 0, 2, 2);
            const Shape& x = a.in[0].shape;
            if (a.in[1].shape != Shape{x[0]})
              fail_shape(a, "there is not one target for each row", fmt::format("[{}]", x[0]),
                         to_string(a.in[1].shape));
            if (a.in.size() > 2 && a.present[2] && a.in[2].shape != Shape{x[1]})
              fail_shape(a, "there is not one weight for each class", fmt::format("[{}]", x[1]),
                         to_string(a.in[2].shape));
            return std::vector<TensorType>{{a.in[0].dtype, {x[0]}}};
          },
      .meaning = Composite{[](std::span<const Tensor> in, const ir::Attrs& attrs) {
        const Targets t = targets_of(in[1], in[0].shape(1), attrs);
        Tensor loss = -squeeze(take_along_axis(in[0], t.position, 1), {1});
        if (in[2].defined()) loss = std::move(loss) * take(in[2], squeeze(t.position, {1}));
        return Tensors{where(t.counts, loss, 0)};
      }},
      .gradient = GradientOfBody{},
      .batching = BatchBody{},
      .samples =
          [] {
            const SampleInput target{{3}, 0, 0, {0, 3, 1}, kI64};
            return std::vector<Sample>{{{{{3, 4}}, target, {.shape = {}, .absent = true}}, {int64_t{-100}}},
                                       {{{{3, 4}}, target, {{4}}}, {int64_t{3}}}};
          },
      .invalid_samples =
          [] {
            return std::vector<InvalidSample>{
                {{{{3, 4}}, {{3}, 0, 0, {0, 4, 1}, kI64}, {.shape = {}, .absent = true}},
                 {int64_t{-100}},
                 "out of range"},
                {{{{3, 4}}, {{3}, 0, 0, {0, -1, 1}, kI64}, {.shape = {}, .absent = true}},
                 {int64_t{-100}},
                 "out of range"},
                {{{{3, 4}}, {{2}, 0, 0, {0, 1}, kI64}, {.shape = {}, .absent = true}}, {int64_t{-100}}, "one target"},
                {{{{3, 4}}, {{3}, 0, 0, {0, 1, 1}, kI64}, {{3}}}, {int64_t{-100}}, "one weight"}};
          },
      .tolerance = {32, 1e-5}};
  return def;
}

std::vector<const OpDef*> loss_ops() {
  std::vector<const OpDef*> list{&cross_entropy_op(), &cross_entropy_grad_op(), &nll_loss_op()};
  for (const auto& family : {elementwise_loss_ops(), row_loss_ops()})
    list.insert(list.end(), family.begin(), family.end());
  return list;
}

}  // namespace ops

using ops::reduced;

namespace {

// The mean counts only what is not ignored.
Tensor reduced_targets(Tensor losses, const Tensor& target, int64_t ignore_index, LossReduction reduction) {
  if (reduction != LossReduction::Mean) return reduced(std::move(losses), reduction);
  const Tensor count = cast(sum(not_equal(target, ignore_index)), losses.dtype());
  return sum(std::move(losses)) / count;
}

// The weight of each target's class; 0 for the ignored ones.
Tensor weight_of(const Tensor& weight, const Tensor& target, int64_t ignore_index) {
  const Tensor counts = not_equal(target, ignore_index);
  return where(counts, take(weight, where(counts, target, 0)), 0);
}

// [N, C, …] as [N * …, C].
Tensor classes_last(const Tensor& x) { return x.ndim() <= 2 ? x : reshape(moveaxis(x, 1, -1), {-1, x.shape(1)}); }

// With a weight for each class, by which the mean divides too.
Tensor weighted_cross_entropy(Tensor logits, Tensor target, const CrossEntropyOptions& options) {
  const Shape shape = target.shape();
  const Tensor flat = flatten(cast(std::move(target), DType::I64)), logp = log_softmax(classes_last(logits), 1);
  const double s = options.label_smoothing;
  Tensor losses = nll_loss(logp, flat, options.ignore_index, LossReduction::None, options.weight) * (1 - s);
  if (s != 0) {
    const Tensor spread = sum(logp * options.weight, {1}) * (s / static_cast<double>(logp.shape(1)));
    losses = std::move(losses) - where(not_equal(flat, options.ignore_index), spread, 0);
  }
  if (options.reduction == LossReduction::None) return reshape(std::move(losses), shape);
  if (options.reduction != LossReduction::Mean) return reduced(std::move(losses), options.reduction);
  return sum(std::move(losses)) / sum(weight_of(options.weight, flat, options.ignore_index));
}

}  // namespace

Tensor cross_entropy(Tensor logits, Tensor target, CrossEntropyOptions options) {
  if (logits.ndim() < 2)
    throw ShapeError({"cross_entropy", "the logits have no class axis", "[N, C] or [N, C, …]",
                      to_string(logits.shape()), "unsqueeze(logits, {0})"});
  if (is_float(target.dtype()))
    throw DTypeError({"cross_entropy", "the target is not a class number", "i32 or i64",
                      std::string(name(target.dtype())),
                      "cross_entropy_probabilities(logits, target) for target probabilities"});
  if (options.weight.defined()) return weighted_cross_entropy(std::move(logits), std::move(target), options);
  const Shape shape = target.shape();
  target = cast(std::move(target), DType::I64);
  Tensor losses = ops::call1(ops::cross_entropy_op(), {classes_last(logits), flatten(target)},
                             {options.ignore_index, options.label_smoothing});
  if (options.reduction == LossReduction::None) return reshape(std::move(losses), shape);
  return reduced_targets(std::move(losses), target, options.ignore_index, options.reduction);
}

Tensor cross_entropy_probabilities(Tensor logits, Tensor target, double label_smoothing, LossReduction reduction) {
  ops::expect_same_shape("cross_entropy", logits, target);
  if (label_smoothing != 0)
    target = std::move(target) * (1 - label_smoothing) + label_smoothing / static_cast<double>(logits.shape(1));
  return reduced(-sum(log_softmax(std::move(logits), 1) * target, {1}), reduction);
}

Tensor nll_loss(Tensor log_probabilities, Tensor target, int64_t ignore_index, LossReduction reduction,
                const Tensor& weight) {
  const Shape shape = target.shape();
  const Tensor flat = flatten(cast(std::move(target), DType::I64));
  Tensor losses = ops::call1(ops::nll_loss_op(), {classes_last(log_probabilities), flat, weight}, {ignore_index});
  if (reduction == LossReduction::None) return reshape(std::move(losses), shape);
  if (!weight.defined()) return reduced_targets(std::move(losses), flat, ignore_index, reduction);
  if (reduction != LossReduction::Mean) return reduced(std::move(losses), reduction);
  return sum(std::move(losses)) / sum(weight_of(weight, flat, ignore_index));
}

}  // namespace tenon
