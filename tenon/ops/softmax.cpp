#include "tenon/ops/softmax.h"

#include "tenon/ops/call.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"

namespace tenon {
namespace ops {
namespace {

std::vector<TensorType> infer_along_axis(const InferArgs& a) {
  normalize_axis(a.op.name, a.attrs.integer(0), static_cast<int64_t>(a.in[0].shape.size()));
  if (a.in.size() > 1 && a.in[1].shape != a.in[0].shape)
    fail_shape(a, "the inputs differ in shape", to_string(a.in[0].shape), to_string(a.in[1].shape));
  return {a.in[0]};
}

// Axes count from the front of an example; the batch comes before it.
Tensors batch_along_axis(const BatchArgs& a) {
  int64_t rank = 0;
  for (size_t i = 0; i < a.in.size(); ++i) rank = a.in[i].ndim() - (a.batched[i] ? 1 : 0);
  const int64_t axis = normalize_axis(a.op.name, a.attrs.integer(0), rank) + 1;
  Tensors in;
  for (size_t i = 0; i < a.in.size(); ++i) {
    Shape shape = a.in[i].shape();
    if (!a.batched[i]) shape.insert(shape.begin(), a.size);
    in.push_back(expand(a.in[i], shape));
  }
  return call(a.op, std::move(in), {axis});
}

const std::vector<AttrSpec> kAxis{{"axis", 1, ir::AttrType::Int, "the axis along which probabilities add up to 1"}};

std::vector<Sample> samples_of_one() {
  return {{{{{2, 5}, -3, 3}}, {int64_t{-1}}}, {{{{2, 5, 3}, -3, 3}}, {int64_t{1}}}, {{{{4}, -60, 60}}, {int64_t{0}}}};
}
std::vector<Sample> samples_of_two() {
  return {{{{{2, 5}}, {{2, 5}, 0.1, 0.9}}, {int64_t{-1}}}, {{{{2, 5, 3}}, {{2, 5, 3}, 0.1, 0.9}}, {int64_t{1}}}};
}
std::vector<InvalidSample> bad_axis() { return {{{{{2, 5}}}, {int64_t{2}}, "axis"}}; }

OpDef along_axis(std::string_view name, std::string_view doc,
                 Tensors (*body)(std::span<const Tensor>, const ir::Attrs&)) {
  OpDef def;
  def.name = name;
  def.doc = doc;
  def.inputs = {{"x", kFloats}};
  def.attrs = kAxis;
  def.promote = kPromoteToFloat;
  def.autocast = AutocastRule::Full;
  def.infer = infer_along_axis;
  def.meaning = Composite{body};
  def.gradient = GradientOfBody{};
  def.batching = BatchRule{batch_along_axis};
  def.samples = samples_of_one;
  def.invalid_samples = bad_axis;
  def.tolerance = {16, 1e-5};
  return def;
}

// exp is at most 1; a row of -inf alone gives NaN, as it has no distribution.
Tensor shifted(const Tensor& x, const Ints& axes) {
  if (x.shape(axes[0]) == 0) return x;
  return x - max(x.detach(), axes, true);
}

}  // namespace

const OpDef& softmax_grad_op() {
  static const OpDef def = [] {
    OpDef d = along_axis("softmax_grad", "The cotangent of softmax's input from that of its result y.",
                         [](std::span<const Tensor> in, const ir::Attrs& attrs) {
                           const Tensor &ct = in[0], &y = in[1];
                           return Tensors{y * (ct - sum(ct * y, {attrs.integer(0)}, true))};
                         });
    d.inputs = {{"ct", kFloats}, {"y", kFloats}};
    d.samples = samples_of_two;
    d.invalid_samples = nullptr;
    return d;
  }();
  return def;
}

const OpDef& softmax_op() {
  static const OpDef def = [] {
    OpDef d = along_axis("softmax", "exp(x) / sum(exp(x)) along the axis, computed without overflow.",
                         [](std::span<const Tensor> in, const ir::Attrs& attrs) {
                           const Ints axes{attrs.integer(0)};
                           const Tensor e = exp(shifted(in[0], axes));
                           return Tensors{e / sum(e, axes, true)};
                         });
    d.gradient = Vjp{[](const VjpArgs& a) { return call(softmax_grad_op(), {a.ct[0], a.out[0]}, a.attrs); }, 0, bit(0)};
    return d;
  }();
  return def;
}

const OpDef& log_softmax_grad_op() {
  static const OpDef def = [] {
    OpDef d = along_axis("log_softmax_grad", "The cotangent of log_softmax's input from that of its result y.",
                         [](std::span<const Tensor> in, const ir::Attrs& attrs) {
                           return Tensors{in[0] - exp(in[1]) * sum(in[0], {attrs.integer(0)}, true)};
                         });
    d.inputs = {{"ct", kFloats}, {"y", kFloats}};
    d.samples = samples_of_two;
    d.invalid_samples = nullptr;
    return d;
  }();
  return def;
}

const OpDef& log_softmax_op() {
  static const OpDef def = [] {
    OpDef d = along_axis("log_softmax", "x - log(sum(exp(x))) along the axis, computed without overflow.",
                         [](std::span<const Tensor> in, const ir::Attrs& attrs) {
                           const Ints axes{attrs.integer(0)};
                           const Tensor s = shifted(in[0], axes);
                           return Tensors{s - log(sum(exp(s), axes, true))};
                         });
    d.gradient =
        Vjp{[](const VjpArgs& a) { return call(log_softmax_grad_op(), {a.ct[0], a.out[0]}, a.attrs); }, 0, bit(0)};
    return d;
  }();
  return def;
}

std::vector<const OpDef*> softmax_ops() {
  return {&softmax_op(), &softmax_grad_op(), &log_softmax_op(), &log_softmax_grad_op()};
}

}  // namespace ops

Tensor softmax(Tensor x, int64_t axis) { return ops::call1(ops::softmax_op(), {std::move(x)}, {axis}); }
Tensor log_softmax(Tensor x, int64_t axis) { return ops::call1(ops::log_softmax_op(), {std::move(x)}, {axis}); }

}  // namespace tenon
