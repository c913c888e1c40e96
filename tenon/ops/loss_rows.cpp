// Losses of rows: distances between vectors, and margins between the classes of a row. Each is a composite.
#include <fmt/format.h>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/cumulative.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/loss_reduce.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"

namespace tenon {
namespace ops {
namespace {

constexpr int kI64 = static_cast<int>(DType::I64);

// All inputs broadcast to one shape, of which one axis disappears.
std::vector<TensorType> without_axis(const InferArgs& a, int64_t axis) {
  Shape shape = a.in[0].shape;
  for (size_t i = 1; i < a.in.size(); ++i) shape = broadcast_shapes(a.op.name, shape, a.in[i].shape);
  if (shape.empty()) fail_shape(a, "a number has no axis", "at least one axis", "[]");
  const int64_t place = normalize_axis(a.op.name, axis, static_cast<int64_t>(shape.size()));
  shape.erase(shape.begin() + place);
  return {{a.in[0].dtype, shape}};
}

Tensor length_of(const Tensor& x, int64_t axis, double epsilon) {
  return sqrt(maximum(sum(square(x), {axis}), epsilon * epsilon));
}

const OpDef& cosine_similarity_op() {
  static const OpDef def{
      .name = "cosine_similarity",
      .doc = "sum(a b) / (|a| |b|) along an axis; lengths count as at least epsilon.",
      .inputs = {{"a", kFloats}, {"b", kFloats}},
      .attrs = {{"axis", 1, ir::AttrType::Int, "along which the vectors lie"},
                {"epsilon", 2, ir::AttrType::Real, "least length"}},
      .promote = kPromoteToFloat,
      .autocast = AutocastRule::Full,
      .infer = [](const InferArgs& a) { return without_axis(a, a.attrs.integer(0)); },
      .meaning = Composite{[](std::span<const Tensor> in, const ir::Attrs& attrs) {
        const int64_t axis = attrs.integer(0);
        Shape both = broadcast_shapes("cosine_similarity", in[0].shape(), in[1].shape());
        const Tensor a = expand(in[0], both), b = expand(in[1], both);
        return Tensors{sum(a * b, {axis}) / (length_of(a, axis, attrs.real(1)) * length_of(b, axis, attrs.real(1)))};
      }},
      .gradient = GradientOfBody{},
      .batching = BatchBody{},
      .samples =
          [] {
            return std::vector<Sample>{{{{{3, 4}}, {{3, 4}}}, {int64_t{-1}, 1e-8}},
                                       {{{{2, 3, 4}}, {{3, 1}}}, {int64_t{1}, 1e-8}}};
          },
      .invalid_samples =
          [] {
            return std::vector<InvalidSample>{{{{{3, 4}}, {{3}}}, {int64_t{-1}, 1e-8}, "cannot be broadcast"},
                                              {{{{3, 4}}, {{3, 4}}}, {int64_t{2}, 1e-8}, "out of range"}};
          },
      .tolerance = {64, 1e-5}};
  return def;
}

const OpDef& triplet_margin_loss_op() {
  static const OpDef def{
      .name = "triplet_margin_loss",
      .doc =
          "max(0, |anchor - positive| - |anchor - negative| + margin) along the last axis; with `swap` the distance "
          "of positive and negative counts if it is the smaller one.",
      .inputs = {{"anchor", kFloats}, {"positive", kFloats}, {"negative", kFloats}},
      .attrs = {{"margin", 1, ir::AttrType::Real, "by how much the negative must be farther"},
                {"p", 2, ir::AttrType::Real, "order of the norm"},
                {"epsilon", 3, ir::AttrType::Real, "added to differences: keeps the derivative finite"},
                {"swap", 4, ir::AttrType::Flag, "measure the negative from the positive too"}},
      .promote = kPromoteToFloat,
      .autocast = AutocastRule::Full,
      .infer = [](const InferArgs& a) { return without_axis(a, -1); },
      .meaning = Composite{[](std::span<const Tensor> in, const ir::Attrs& attrs) {
        const double p = attrs.real(1), epsilon = attrs.real(2);
        const Tensor near = pairwise_distance(in[0], in[1], p, epsilon);
        Tensor far = pairwise_distance(in[0], in[2], p, epsilon);
        if (attrs.flag(3)) far = minimum(far, pairwise_distance(in[1], in[2], p, epsilon));
        return Tensors{maximum(near - far + attrs.real(0), 0)};
      }},
      .gradient = GradientOfBody{},
      .batching = BatchBody{},
      .samples =
          [] {
            return std::vector<Sample>{{{{{3, 4}}, {{3, 4}}, {{3, 4}}}, {1.0, 2.0, 1e-6, false}},
                                       {{{{3, 4}}, {{3, 4}}, {{4}}}, {3.0, 2.0, 1e-6, true}}};
          },
      .invalid_samples =
          [] {
            return std::vector<InvalidSample>{
                {{{{3, 4}}, {{3, 4}}, {{3}}}, {1.0, 2.0, 1e-6, false}, "cannot be broadcast"}};
          },
      .tolerance = {64, 1e-5}};
  return def;
}

void check_rows(const InferArgs& a, bool one_target) {
  expect_rank(a, 0, 2, 2);
  const Shape& x = a.in[0].shape;
  const Shape want = one_target ? Shape{x[0]} : x;
  if (a.in[1].shape != want)
    fail_shape(a, one_target ? "there is not one target for each row" : "the targets are not of the input's shape",
               to_string(want), to_string(a.in[1].shape));
}

const OpDef& multi_margin_loss_op() {
  static const OpDef def{
      .name = "multi_margin_loss",
      .doc = "The sum over the other classes of max(0, margin - x[target] + x[i])^p, divided by the number of classes.",
      .inputs = {{"input", kFloats}, {"target", kIndex}, {"weight", kFloats, ArgKind::Optional}},
      .attrs = {{"p", 1, ir::AttrType::Int, "1 or 2"}, {"margin", 2, ir::AttrType::Real, "wanted distance"}},
      .promote = {5, true},
      .autocast = AutocastRule::Full,
      .infer =
          [](const InferArgs& a) {
            check_rows(a, true);
            if (a.attrs.integer(0) != 1 && a.attrs.integer(0) != 2)
              fail_value(a, "p is neither 1 nor 2", "1 or 2", std::to_string(a.attrs.integer(0)));
            return std::vector<TensorType>{{a.in[0].dtype, {a.in[0].shape[0]}}};
          },
      .meaning = Composite{[](std::span<const Tensor> in, const ir::Attrs& attrs) {
        const Tensor& x = in[0];
        const Tensor target = where(less(in[1], 0), x.shape(1), in[1]);  // a negative number is no class
        Tensor miss = maximum(x - take_along_axis(x, unsqueeze(target, {1}), 1) + attrs.real(1), 0);
        if (attrs.integer(0) == 2) miss = square(miss);
        if (in[2].defined()) miss = miss * unsqueeze(take(in[2], target), {1});
        miss = where(one_hot(target, x.shape(1), DType::Bool), 0, miss);
        return Tensors{sum(miss, {1}) / static_cast<double>(x.shape(1))};
      }},
      .gradient = GradientOfBody{},
      .batching = BatchBody{},
      .samples =
          [] {
            const SampleInput target{{3}, 0, 0, {0, 3, 1}, kI64}, x{.shape = {3, 4}, .distinct = true};
            return std::vector<Sample>{{{x, target, {.shape = {}, .absent = true}}, {int64_t{1}, 1.013}},
                                       {{x, target, {{4}, 0.5, 2}}, {int64_t{2}, 0.513}}};
          },
      .invalid_samples =
          [] {
            const SampleInput none{.shape = {}, .absent = true};
            return std::vector<InvalidSample>{
                {{{{3, 4}}, {{3}, 0, 0, {0, 4, 1}, kI64}, none}, {int64_t{1}, 1.0}, "out of range"},
                {{{{3, 4}}, {{2}, 0, 0, {0, 1}, kI64}, none}, {int64_t{1}, 1.0}, "one target"},
                {{{{3, 4}}, {{3}, 0, 0, {0, 1, 1}, kI64}, none}, {int64_t{3}, 1.0}, "neither 1 nor 2"}};
          },
      .tolerance = {32, 1e-5}};
  return def;
}

const OpDef& multilabel_margin_loss_op() {
  static const OpDef def{
      .name = "multilabel_margin_loss",
      .doc =
          "The sum over pairs of a target class t and another class i of max(0, 1 - x[t] + x[i]), divided by the "
          "number of classes. A row of targets ends at the first negative number.",
      .inputs = {{"input", kFloats}, {"target", kIndex}},
      .promote = {1, true},
      .autocast = AutocastRule::Full,
      .infer =
          [](const InferArgs& a) {
            check_rows(a, false);
            return std::vector<TensorType>{{a.in[0].dtype, {a.in[0].shape[0]}}};
          },
      .meaning = Composite{[](std::span<const Tensor> in, const ir::Attrs&) {
        const Tensor &x = in[0], &target = in[1];
        const int64_t classes = x.shape(1);
        // Listed: before the first negative number.
        const Tensor listed = not_equal(cumprod(cast(greater_equal(target, 0), DType::I64), 1), 0);
        const Tensor is_target = any(one_hot(where(listed, target, -1), classes, DType::Bool), {1});  // [N, C]
        const Tensor of_target = take_along_axis(x, where(listed, target, 0), 1);
        const Tensor miss = maximum(unsqueeze(x, {1}) - unsqueeze(of_target, {2}) + 1, 0);  // [N, target, class]
        const Tensor counts = logical_and(unsqueeze(listed, {2}), unsqueeze(logical_not(is_target), {1}));
        return Tensors{sum(where(counts, miss, 0), {1, 2}) / static_cast<double>(classes)};
      }},
      .gradient = GradientOfBody{},
      .batching = BatchBody{},
      .samples =
          [] {
            return std::vector<Sample>{{{{.shape = {2, 4}, .low = -1.4, .high = 1.9, .distinct = true},
                                         {{2, 4}, 0, 0, {3, 0, -1, 1, 2, -1, 0, 0}, kI64}}}};
          },
      .invalid_samples =
          [] {
            return std::vector<InvalidSample>{{{{{2, 4}}, {{2}, 0, 0, {0, 1}, kI64}}, {}, "not of the input's shape"},
                                              {{{{1, 3}}, {{1, 3}, 0, 0, {3, 0, -1}, kI64}}, {}, "out of range"}};
          },
      .tolerance = {32, 1e-5}};
  return def;
}

}  // namespace

std::vector<const OpDef*> row_loss_ops() {
  return {&cosine_similarity_op(), &triplet_margin_loss_op(), &multi_margin_loss_op(), &multilabel_margin_loss_op(),
          &ctc_loss_op()};
}

}  // namespace ops

using ops::call1;
using ops::reduced;

Tensor cosine_similarity(Tensor a, Tensor b, int64_t axis, double epsilon) {
  return call1(ops::cosine_similarity_op(), {std::move(a), std::move(b)}, {axis, epsilon});
}
Tensor pairwise_distance(Tensor a, Tensor b, double p, double epsilon, bool keepdims) {
  return norm(std::move(a) - std::move(b) + epsilon, p, {-1}, keepdims);
}
Tensor cosine_embedding_loss(Tensor a, Tensor b, Tensor label, double margin, LossReduction reduction) {
  ops::expect_same_shape("cosine_embedding_loss", a, b);
  const Tensor similarity = cosine_similarity(std::move(a), std::move(b));
  return reduced(where(greater(label, 0), 1 - similarity, maximum(similarity - margin, 0)), reduction);
}
Tensor triplet_margin_loss(Tensor anchor, Tensor positive, Tensor negative, double margin, double p,
                           LossReduction reduction, bool swap) {
  ops::expect_same_shape("triplet_margin_loss", anchor, positive);
  ops::expect_same_shape("triplet_margin_loss", anchor, negative);
  return reduced(call1(ops::triplet_margin_loss_op(), {std::move(anchor), std::move(positive), std::move(negative)},
                       {margin, p, 1e-6, swap}),
                 reduction);
}

namespace {

// Rows and their targets; a single row becomes a batch of one.
Tensor row_losses(const ops::OpDef& op, Tensor input, Tensor target, const Tensor* weight, const ir::Attrs& attrs,
                  LossReduction reduction) {
  const bool one = input.ndim() == 1;
  if (one) {
    input = unsqueeze(std::move(input), {0});
    target = unsqueeze(std::move(target), {0});
  }
  Tensors in{std::move(input), cast(std::move(target), DType::I64)};
  if (weight) in.push_back(*weight);
  Tensor losses = call1(op, std::move(in), attrs);
  if (one) losses = squeeze(std::move(losses), {0});
  return reduced(std::move(losses), reduction);
}

}  // namespace

Tensor multi_margin_loss(Tensor input, Tensor target, int64_t p, double margin, const Tensor& weight,
                         LossReduction reduction) {
  return row_losses(ops::multi_margin_loss_op(), std::move(input), std::move(target), &weight, {p, margin}, reduction);
}
Tensor multilabel_margin_loss(Tensor input, Tensor target, LossReduction reduction) {
  return row_losses(ops::multilabel_margin_loss_op(), std::move(input), std::move(target), nullptr, {}, reduction);
}
Tensor multilabel_soft_margin_loss(Tensor input, Tensor target, const Tensor& weight, LossReduction reduction) {
  return reduced(mean(bce_with_logits(std::move(input), std::move(target), LossReduction::None, {}, weight), {-1}),
                 reduction);
}

}  // namespace tenon
