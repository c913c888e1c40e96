#include "tenon/ops/loss.h"

#include <fmt/format.h>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/infer.h"
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

// The targets with the ignored ones at class 0, and which ones count.
struct Targets {
  Tensor position;  // [N, 1]
  Tensor counts;    // bool [N]
};
Targets targets_of(const Tensor& target, const ir::Attrs& attrs) {
  const Tensor counts = not_equal(target, attrs.integer(0));
  return {unsqueeze(where(counts, target, 0), {1}), counts};
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
        const Targets t = targets_of(in[2], attrs);
        const double s = attrs.real(1);
        const int64_t classes = in[1].shape(1);
        const Tensor want =
            one_hot(squeeze(t.position, {1}), classes, in[1].dtype()) * (1 - s) + s / static_cast<double>(classes);
        return Tensors{(softmax(in[1], 1) - want) * unsqueeze(where(t.counts, in[0], 0), {1})};
      }},
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
      .infer =
          [](const InferArgs& a) {
            check_classes(a, 0, 1);
            return std::vector<TensorType>{{a.in[0].dtype, {a.in[0].shape[0]}}};
          },
      .meaning = Composite{[](std::span<const Tensor> in, const ir::Attrs& attrs) {
        const Targets t = targets_of(in[1], attrs);
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
                {{{{3, 4}}, {{2}, 0, 0, {0, 1}, kI64}}, {int64_t{-100}, 0.0}, "one target"},
                {{{{3, 4}}, {{3}, 0, 0, {0, 1, 1}, kI64}}, {int64_t{-100}, 2.0}, "not a share"}};
          },
      .tolerance = {32, 1e-5}};
  return def;
}

std::vector<const OpDef*> loss_ops() { return {&cross_entropy_op(), &cross_entropy_grad_op()}; }

}  // namespace ops

namespace {

Tensor reduced(Tensor losses, LossReduction reduction) {
  switch (reduction) {
    case LossReduction::Mean:
      return mean(std::move(losses));
    case LossReduction::Sum:
      return sum(std::move(losses));
    case LossReduction::None:
      return losses;
  }
  throw InternalError("unknown reduction");
}

// The mean counts only what is not ignored.
Tensor reduced_targets(Tensor losses, const Tensor& target, int64_t ignore_index, LossReduction reduction) {
  if (reduction != LossReduction::Mean) return reduced(std::move(losses), reduction);
  const Tensor count = cast(sum(not_equal(target, ignore_index)), losses.dtype());
  return sum(std::move(losses)) / count;
}

void same_shape(const char* where, const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape())
    throw ShapeError({where, "input and target differ in shape", to_string(a.shape()), to_string(b.shape()), {}});
}

// [N, C, …] as [N * …, C].
Tensor classes_last(const Tensor& x) { return x.ndim() <= 2 ? x : reshape(moveaxis(x, 1, -1), {-1, x.shape(1)}); }

}  // namespace

Tensor cross_entropy(Tensor logits, Tensor target, CrossEntropyOptions options) {
  if (logits.ndim() < 2)
    throw ShapeError({"cross_entropy", "the logits have no class axis", "[N, C] or [N, C, …]",
                      to_string(logits.shape()), "unsqueeze(logits, {0})"});
  if (is_float(target.dtype()))
    throw DTypeError({"cross_entropy", "the target is not a class number", "i32 or i64",
                      std::string(name(target.dtype())),
                      "cross_entropy_probabilities(logits, target) for target probabilities"});
  const Shape shape = target.shape();
  target = cast(std::move(target), DType::I64);
  Tensor losses = ops::call1(ops::cross_entropy_op(), {classes_last(logits), flatten(target)},
                             {options.ignore_index, options.label_smoothing});
  if (options.reduction == LossReduction::None) return reshape(std::move(losses), shape);
  return reduced_targets(std::move(losses), target, options.ignore_index, options.reduction);
}

Tensor cross_entropy_probabilities(Tensor logits, Tensor target, double label_smoothing, LossReduction reduction) {
  same_shape("cross_entropy", logits, target);
  if (label_smoothing != 0)
    target = std::move(target) * (1 - label_smoothing) + label_smoothing / static_cast<double>(logits.shape(1));
  return reduced(-sum(log_softmax(std::move(logits), 1) * target, {1}), reduction);
}

Tensor nll_loss(Tensor log_probabilities, Tensor target, int64_t ignore_index, LossReduction reduction) {
  const Shape& shape = target.shape();
  const Tensor flat = flatten(cast(target, DType::I64));
  const Tensor counts = not_equal(flat, ignore_index);
  const Tensor picked =
      squeeze(take_along_axis(classes_last(log_probabilities), unsqueeze(where(counts, flat, 0), {1}), 1), {1});
  Tensor losses = where(counts, -picked, 0);
  if (reduction == LossReduction::None) return reshape(std::move(losses), shape);
  return reduced_targets(std::move(losses), flat, ignore_index, reduction);
}

Tensor mse_loss(Tensor input, Tensor target, LossReduction reduction) {
  same_shape("mse_loss", input, target);
  return reduced(square(std::move(input) - std::move(target)), reduction);
}
Tensor l1_loss(Tensor input, Tensor target, LossReduction reduction) {
  same_shape("l1_loss", input, target);
  return reduced(abs(std::move(input) - std::move(target)), reduction);
}
Tensor huber_loss(Tensor input, Tensor target, double delta, LossReduction reduction) {
  same_shape("huber_loss", input, target);
  if (!(delta > 0))
    throw ValueError({"huber_loss", "delta is not positive", "more than 0", fmt::format("{}", delta), {}});
  const Tensor d = abs(std::move(input) - std::move(target));
  // min(d, delta) * (d - min(d, delta) / 2) is both branches at once.
  const Tensor inner = minimum(d, delta);
  return reduced(inner * (d - inner * 0.5), reduction);
}
Tensor smooth_l1_loss(Tensor input, Tensor target, double beta, LossReduction reduction) {
  if (beta == 0) return l1_loss(std::move(input), std::move(target), reduction);
  return huber_loss(std::move(input), std::move(target), beta, reduction) / beta;
}
Tensor bce_with_logits(Tensor logits, Tensor target, LossReduction reduction, Tensor positive_weight) {
  same_shape("bce_with_logits", logits, target);
  const Tensor positive = log_sigmoid(logits) * target, negative = log_sigmoid(-logits) * (1 - target);
  return reduced(-(positive_weight.defined() ? positive * positive_weight + negative : positive + negative), reduction);
}
Tensor kl_div(Tensor input, Tensor target, bool log_target, LossReduction reduction) {
  same_shape("kl_div", input, target);
  if (log_target) return reduced(exp(target) * (target - input), reduction);
  // 0 log 0 counts as 0.
  const Tensor positive = greater(target, 0);
  return reduced(where(positive, target * (log(where(positive, target, 1)) - input), 0), reduction);
}
Tensor cosine_similarity(Tensor a, Tensor b, int64_t axis, double epsilon) {
  const Tensor lengths = sqrt(sum(square(a), {axis}) * sum(square(b), {axis}));
  return sum(std::move(a) * std::move(b), {axis}) / maximum(lengths, epsilon);
}
Tensor cosine_embedding_loss(Tensor a, Tensor b, Tensor label, double margin, LossReduction reduction) {
  same_shape("cosine_embedding_loss", a, b);
  const Tensor similarity = cosine_similarity(std::move(a), std::move(b));
  return reduced(where(greater(label, 0), 1 - similarity, maximum(similarity - margin, 0)), reduction);
}
Tensor triplet_margin_loss(Tensor anchor, Tensor positive, Tensor negative, double margin, double p,
                           LossReduction reduction) {
  same_shape("triplet_margin_loss", anchor, positive);
  same_shape("triplet_margin_loss", anchor, negative);
  // The small number keeps the norm's derivative finite where two points coincide.
  const Tensor near = norm(anchor - positive + 1e-6, p, {-1}), far = norm(anchor - negative + 1e-6, p, {-1});
  return reduced(relu(near - far + margin), reduction);
}

}  // namespace tenon
