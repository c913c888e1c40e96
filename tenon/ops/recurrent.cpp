#include "tenon/ops/recurrent.h"

#include <fmt/format.h>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/control.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/random.h"

namespace tenon {
namespace {

Tensor biased(Tensor x, const Tensor& bias) { return bias.defined() ? std::move(x) + bias : x; }

// ---- steps, from projected inputs ----
Tensor rnn_step(const Tensor& projected, const Tensor& h, const Tensor& hidden_weight, bool use_relu) {
  Tensor sum = projected + matmul(h, transpose(hidden_weight));
  return use_relu ? relu(std::move(sum)) : tanh(std::move(sum));
}
LstmState lstm_step(const Tensor& projected, const LstmState& s, const Tensor& hidden_weight,
                    const Tensor& projection) {
  const Tensors gate = chunk(projected + matmul(s.h, transpose(hidden_weight)), 4, -1);
  // One call in each statement: compilers call the operands of an operator in orders of their own, and graphs would
  // differ.
  const Tensor input = sigmoid(gate[0]), candidate = tanh(gate[2]);
  const Tensor kept = sigmoid(gate[1]) * s.c;
  const Tensor c = kept + input * candidate;
  const Tensor output = sigmoid(gate[3]);
  const Tensor h = output * tanh(c);
  return {projection.defined() ? matmul(h, transpose(projection)) : h, c};
}
Tensor gru_step(const Tensor& projected, const Tensor& h, const Tensor& hidden_weight, const Tensor& hidden_bias) {
  const Tensors a = chunk(projected, 3, -1), b = chunk(biased(matmul(h, transpose(hidden_weight)), hidden_bias), 3, -1);
  const Tensor reset = sigmoid(a[0] + b[0]), update = sigmoid(a[1] + b[1]);
  const Tensor candidate = tanh(a[2] + reset * b[2]);
  return candidate + update * (h - candidate);
}

}  // namespace

RecurrenceResult recurrence(const RecurrenceStep& step, const Tensor& x, Tensors states, const Tensor& lengths,
                            bool reverse) {
  Tensors scanned{x};
  if (lengths.defined()) {
    const Tensor batch = reshape(cast(lengths, i64), {1, lengths.shape(0), 1});
    scanned.push_back(less(iota({x.shape(0), 1, 1}, 0), batch));
  }
  const auto body = [&](const Tensors& carry, const Tensors& xs) -> ScanStep {
    Tensors next = step(xs[0], carry);
    Tensor y = next[0];
    if (xs.size() > 1) {
      for (size_t i = 0; i < next.size(); ++i) next[i] = where(xs[1], next[i], carry[i]);
      y = where(xs[1], y, 0);
    }
    return {std::move(next), {std::move(y)}};
  };
  ScanStep result = scan(body, std::move(states), scanned, {.reverse = reverse});
  return {std::move(result.rows[0]), std::move(result.carry)};
}

namespace ops {
namespace {

constexpr int kI64 = static_cast<int>(DType::I64);
const AttrSpec kReverse{"reverse", 1, ir::AttrType::Flag, "from the last step to the first"};

// Where each input of an op stands: -1 for those that it does not have.
struct Places {
  int64_t gates;
  int cell, input, hidden, input_bias, hidden_bias, projection, lengths;
};
constexpr Places kRnnPlaces{1, -1, 2, 3, 4, 5, -1, 6};
constexpr Places kGruPlaces{3, -1, 2, 3, 4, 5, -1, 6};
constexpr Places kLstmPlaces{4, 2, 3, 4, 5, 6, 7, 8};

void expect_shape(const InferArgs& a, int i, const Shape& shape, std::string_view form) {
  if (i < 0) return;
  const auto k = static_cast<size_t>(i);
  if (k < a.in.size() && a.present[k] && a.in[k].shape != shape)
    fail_shape(a, fmt::format("{} does not fit", a.op.inputs[k].name), fmt::format("{} = {}", form, to_string(shape)),
               to_string(a.in[k].shape));
}

std::vector<TensorType> recurrent_types(const InferArgs& a, const Places& at) {
  expect_rank(a, 0, 3, 3);
  expect_rank(a, 1, 2, 2);
  const auto shape = [&](int i) -> const Shape& { return a.in[static_cast<size_t>(i)].shape; };
  expect_rank(a, static_cast<size_t>(at.input), 2, 2);
  const int64_t steps = shape(0)[0], n = shape(0)[1], rows = shape(at.input)[0], hidden = rows / at.gates;
  if (rows % at.gates != 0)
    fail_shape(a, "the rows of input_weight do not divide into gates", fmt::format("a multiple of {}", at.gates),
               std::to_string(rows));
  const bool projected = at.projection >= 0 && static_cast<size_t>(at.projection) < a.in.size() &&
                         a.present[static_cast<size_t>(at.projection)];
  if (projected) expect_rank(a, static_cast<size_t>(at.projection), 2, 2);
  const int64_t out = projected ? shape(at.projection)[0] : hidden;
  expect_shape(a, at.input, {rows, shape(0)[2]}, "[gates * hidden, in]");
  expect_shape(a, 1, {n, out}, "[N, out]");
  expect_shape(a, at.cell, {n, hidden}, "[N, hidden]");
  expect_shape(a, at.hidden, {rows, out}, "[gates * hidden, out]");
  expect_shape(a, at.input_bias, {rows}, "[gates * hidden]");
  expect_shape(a, at.hidden_bias, {rows}, "[gates * hidden]");
  expect_shape(a, at.projection, {out, hidden}, "[out, hidden]");
  expect_shape(a, at.lengths, {n}, "[N]");
  const DType t = a.in[0].dtype;
  std::vector<TensorType> types{{t, {steps, n, out}}, {t, {n, out}}};
  if (at.cell >= 0) types.push_back({t, {n, hidden}});
  return types;
}

// All steps at once: x [T, N, in] to [T, N, gates * hidden].
Tensor project(std::span<const Tensor> in, const Places& at) {
  return biased(matmul(in[0], transpose(in[static_cast<size_t>(at.input)])), in[static_cast<size_t>(at.input_bias)]);
}

Tensors rnn_body(std::span<const Tensor> in, const ir::Attrs& attrs) {
  const Tensor x = biased(project(in, kRnnPlaces), in[5]);
  RecurrenceResult r =
      recurrence([&](const Tensor& p, const Tensors& s) { return Tensors{rnn_step(p, s[0], in[3], attrs.flag(1))}; }, x,
                 {in[1]}, in[6], attrs.flag(0));
  return {r.y, r.states[0]};
}

Tensors lstm_body(std::span<const Tensor> in, const ir::Attrs& attrs) {
  const Tensor x = biased(project(in, kLstmPlaces), in[6]);
  RecurrenceResult r = recurrence(
      [&](const Tensor& p, const Tensors& s) {
        LstmState next = lstm_step(p, {s[0], s[1]}, in[4], in[7]);
        return Tensors{std::move(next.h), std::move(next.c)};
      },
      x, {in[1], in[2]}, in[8], attrs.flag(0));
  return {r.y, r.states[0], r.states[1]};
}

Tensors gru_body(std::span<const Tensor> in, const ir::Attrs& attrs) {
  RecurrenceResult r =
      recurrence([&](const Tensor& p, const Tensors& s) { return Tensors{gru_step(p, s[0], in[3], in[5])}; },
                 project(in, kGruPlaces), {in[1]}, in[6], attrs.flag(0));
  return {r.y, r.states[0]};
}

// Samples of an op with `gates` gates: [T 3, N 2, in 2] to hidden 3, with a projection to 2 if there is one.
Sample sample(int64_t gates, bool cell, bool full, ir::Attrs attrs) {
  const SampleInput none{.shape = {}, .absent = true};
  const bool projected = cell && full;
  const int64_t hidden = 3, out = projected ? 2 : hidden;
  Sample s{{{{3, 2, 2}}, {{2, out}}}, std::move(attrs)};
  if (cell) s.inputs.push_back({{2, hidden}});
  s.inputs.push_back({{gates * hidden, 2}, -1, 1});
  s.inputs.push_back({{gates * hidden, out}, -1, 1});
  for (int i = 0; i < 2; ++i) s.inputs.push_back(full ? SampleInput{{gates * hidden}, 0.1, 0.4} : none);
  if (cell) s.inputs.push_back(projected ? SampleInput{{out, hidden}, -1, 1} : none);
  s.inputs.push_back(full ? SampleInput{{2}, 0, 0, {3, 1}, kI64} : none);
  return s;
}
std::vector<Sample> samples(int64_t gates, bool cell, const std::vector<ir::Attrs>& attrs) {
  return {sample(gates, cell, false, attrs[0]), sample(gates, cell, true, attrs[1])};
}
// A hidden weight of another width, and lengths for another batch.
std::vector<InvalidSample> invalid_samples(int64_t gates, bool cell, const ir::Attrs& attrs) {
  Sample weight = sample(gates, cell, true, attrs), lengths = weight, state = weight;
  weight.inputs[cell ? 4 : 3].shape.back() += 1;
  lengths.inputs.back() = {{3}, 0, 0, {1, 1, 1}, kI64};
  state.inputs[1].shape = {3, 3};
  return {{weight.inputs, attrs, "hidden_weight does not fit"},
          {lengths.inputs, attrs, "lengths does not fit"},
          {state.inputs, attrs, "h0 does not fit"}};
}

std::vector<Arg> inputs(bool cell) {
  std::vector<Arg> list{{"x", kFloats}, {"h0", kFloats}};
  if (cell) list.push_back({"c0", kFloats});
  list.push_back({"input_weight", kFloats});
  list.push_back({"hidden_weight", kFloats});
  list.push_back({"input_bias", kFloats, ArgKind::Optional});
  list.push_back({"hidden_bias", kFloats, ArgKind::Optional});
  if (cell) list.push_back({"projection", kFloats, ArgKind::Optional});
  list.push_back({"lengths", kIndex, ArgKind::Optional});
  return list;
}

}  // namespace

const OpDef& rnn_op() {
  static const OpDef def{
      .name = "rnn",
      .doc =
          "One layer of Elman's network in one direction: h = tanh(W x + b + U h + d), or relu. From `lengths` on the "
          "state stays and the output is 0.",
      .inputs = inputs(false),
      .attrs = {kReverse, {"relu", 2, ir::AttrType::Flag, "relu instead of tanh"}},
      .results = 2,
      .promote = {0x3f, true},
      .autocast = AutocastRule::Lower,
      .infer = [](const InferArgs& a) { return recurrent_types(a, kRnnPlaces); },
      .meaning = Composite{rnn_body},
      .gradient = GradientOfBody{},
      .batching = BatchBody{},
      .samples = [] { return samples(1, false, {ir::Attrs{false, false}, ir::Attrs{true, true}}); },
      .invalid_samples = [] { return invalid_samples(1, false, {false, false}); },
      .tolerance = {128, 1e-5}};
  return def;
}

const OpDef& lstm_op() {
  static const OpDef def{
      .name = "lstm",
      .doc =
          "One layer of long short-term memory in one direction (Hochreiter and Schmidhuber, 1997), gates i, f, g, o; "
          "`projection` narrows the output (Sak et al., arXiv 1402.1128). From `lengths` on the states stay and the "
          "output is 0.",
      .inputs = inputs(true),
      .attrs = {kReverse},
      .results = 3,
      .promote = {0xff, true},
      .autocast = AutocastRule::Lower,
      .infer = [](const InferArgs& a) { return recurrent_types(a, kLstmPlaces); },
      .meaning = Composite{lstm_body},
      .gradient = GradientOfBody{},
      .batching = BatchBody{},
      .samples = [] { return samples(4, true, {ir::Attrs{false}, ir::Attrs{true}}); },
      .invalid_samples = [] { return invalid_samples(4, true, {false}); },
      .tolerance = {128, 1e-5}};
  return def;
}

const OpDef& gru_op() {
  static const OpDef def{
      .name = "gru",
      .doc =
          "One layer of gated recurrent units in one direction (Cho et al., arXiv 1406.1078), gates r, z, n, the reset "
          "gate after the product as in cuDNN. From `lengths` on the state stays and the output is 0.",
      .inputs = inputs(false),
      .attrs = {kReverse},
      .results = 2,
      .promote = {0x3f, true},
      .autocast = AutocastRule::Lower,
      .infer = [](const InferArgs& a) { return recurrent_types(a, kGruPlaces); },
      .meaning = Composite{gru_body},
      .gradient = GradientOfBody{},
      .batching = BatchBody{},
      .samples = [] { return samples(3, false, {ir::Attrs{false}, ir::Attrs{true}}); },
      .invalid_samples = [] { return invalid_samples(3, false, {false}); },
      .tolerance = {128, 1e-5}};
  return def;
}

std::vector<const OpDef*> recurrent_ops() { return {&rnn_op(), &lstm_op(), &gru_op()}; }

}  // namespace ops

// ---- layers and directions ----
namespace {

// One layer in one direction: x and its states to y and the last states.
using Layer = std::function<Tensors(const Tensor& x, const Tensors& states, const RecurrentWeights& w, bool reverse)>;

// The state of row `k` of a given start, or zeros.
Tensor start_of(const Tensor& given, size_t k, const Tensor& x, int64_t width) {
  if (given.defined()) return select(given, 0, static_cast<int64_t>(k));
  return zeros({x.shape(1), width}, x.dtype());
}

void check_start(const char* name, const char* what, const Tensor& given, const Shape& want) {
  if (given.defined() && given.shape() != want)
    throw ShapeError({name, fmt::format("{} does not fit", what), to_string(want), to_string(given.shape()), {}});
}

RecurrentResult stacked(const char* name, int64_t gates, size_t states, Tensor x,
                        const std::vector<RecurrentWeights>& weights, Tensor h0, Tensor c0,
                        const RecurrentOptions& options, const Layer& layer) {
  const size_t directions = options.bidirectional ? 2 : 1;
  if (weights.empty() || weights.size() % directions != 0)
    throw ValueError({name,
                      "there is not one entry of weights for each layer and direction",
                      options.bidirectional ? "an even number" : "at least 1",
                      std::to_string(weights.size()),
                      {}});
  const bool one = x.ndim() == 2;
  if (!one && x.ndim() != 3)
    throw ShapeError({name,
                      "the input has the wrong number of axes",
                      options.batch_first ? "[N, T, in] or [T, in]" : "[T, N, in] or [T, in]",
                      to_string(x.shape()),
                      {}});
  const auto batched = [&](const Tensor& t) { return one && t.defined() ? unsqueeze(t, {1}) : t; };
  x = one ? unsqueeze(std::move(x), {1}) : options.batch_first ? transpose(x, 0, 1) : x;
  h0 = batched(h0);
  c0 = batched(c0);
  const int64_t hidden = weights[0].input.shape(0) / gates, n = x.shape(1),
                out = weights[0].projection.defined() ? weights[0].projection.shape(0) : hidden,
                entries = static_cast<int64_t>(weights.size());
  check_start(name, "h0", h0, {entries, n, out});
  check_start(name, "c0", c0, {entries, n, hidden});
  std::vector<Tensors> last(states);
  for (size_t k = 0; k < weights.size(); k += directions) {
    Tensors sides;
    for (size_t d = 0; d < directions; ++d) {
      Tensors start{start_of(h0, k + d, x, out)};
      if (states == 2) start.push_back(start_of(c0, k + d, x, hidden));
      Tensors result = layer(x, start, weights[k + d], d == 1);
      sides.push_back(std::move(result[0]));
      for (size_t s = 0; s < states; ++s) last[s].push_back(std::move(result[1 + s]));
    }
    x = directions == 1 ? sides[0] : concat(sides, -1);
    if (options.dropout > 0 && k + directions < weights.size()) x = dropout(std::move(x), options.dropout);
  }
  const auto state = [&](const Tensors& rows) { return one ? squeeze(stack(rows, 0), {1}) : stack(rows, 0); };
  if (one) x = squeeze(std::move(x), {1});
  if (!one && options.batch_first) x = transpose(std::move(x), 0, 1);
  return {std::move(x), state(last[0]), states == 2 ? state(last[1]) : Tensor()};
}

}  // namespace

RecurrentResult rnn(const Tensor& x, const std::vector<RecurrentWeights>& weights, const Tensor& h0,
                    const RecurrentOptions& options, RnnActivation activation) {
  return stacked("rnn", 1, 1, x, weights, h0, {}, options,
                 [&](const Tensor& in, const Tensors& s, const RecurrentWeights& w, bool reverse) {
                   return ops::call(ops::rnn_op(),
                                    {in, s[0], w.input, w.hidden, w.input_bias, w.hidden_bias, options.lengths},
                                    {reverse, activation == RnnActivation::Relu});
                 });
}
RecurrentResult lstm(const Tensor& x, const std::vector<RecurrentWeights>& weights, const Tensor& h0, const Tensor& c0,
                     const RecurrentOptions& options) {
  return stacked("lstm", 4, 2, x, weights, h0, c0, options,
                 [&](const Tensor& in, const Tensors& s, const RecurrentWeights& w, bool reverse) {
                   return ops::call(
                       ops::lstm_op(),
                       {in, s[0], s[1], w.input, w.hidden, w.input_bias, w.hidden_bias, w.projection, options.lengths},
                       {reverse});
                 });
}
RecurrentResult gru(const Tensor& x, const std::vector<RecurrentWeights>& weights, const Tensor& h0,
                    const RecurrentOptions& options) {
  return stacked("gru", 3, 1, x, weights, h0, {}, options,
                 [&](const Tensor& in, const Tensors& s, const RecurrentWeights& w, bool reverse) {
                   return ops::call(ops::gru_op(),
                                    {in, s[0], w.input, w.hidden, w.input_bias, w.hidden_bias, options.lengths},
                                    {reverse});
                 });
}

Tensor rnn_cell(const Tensor& x, const Tensor& h, const RecurrentWeights& w, RnnActivation activation) {
  const Tensor projected = biased(biased(matmul(x, transpose(w.input)), w.input_bias), w.hidden_bias);
  return rnn_step(projected, h, w.hidden, activation == RnnActivation::Relu);
}
LstmState lstm_cell(const Tensor& x, const LstmState& state, const RecurrentWeights& w) {
  const Tensor projected = biased(biased(matmul(x, transpose(w.input)), w.input_bias), w.hidden_bias);
  return lstm_step(projected, state, w.hidden, w.projection);
}
Tensor gru_cell(const Tensor& x, const Tensor& h, const RecurrentWeights& w) {
  return gru_step(biased(matmul(x, transpose(w.input)), w.input_bias), h, w.hidden, w.hidden_bias);
}

}  // namespace tenon
