// Recurrent ops beyond single calls (values and gradients: tests/nn/torch_layers_test.cpp and the conformance tests):
// captured, recorded as one node, differentiated in a capture, long sequences, dropout, mistakes.
#include "tenon/ops/recurrent.h"

#include <gmock/gmock.h>

#include "tenon/base/error.h"
#include "tenon/exec/evaluate.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/random.h"
#include "tenon/ops/reduce.h"
#include "tenon/trace/capture.h"
#include "tenon/trace/transforms.h"
#include "tests/support/error_text.h"

namespace {

using namespace tenon;
using testing::DoubleNear;
using testing::HasSubstr;
using testing::Pointwise;
using testing_support::error_text;

Tensor random(const Shape& shape, uint64_t seed) { return normal(shape, 0, 0.5, f64, random_key(seed)); }
RecurrentWeights weights(int64_t gates, int64_t in, int64_t hidden, uint64_t seed) {
  return {random({gates * hidden, in}, seed), random({gates * hidden, hidden}, seed + 1),
          random({gates * hidden}, seed + 2), random({gates * hidden}, seed + 3), Tensor()};
}
void expect_near(const Tensor& got, const Tensor& want) {
  ASSERT_EQ(got.shape(), want.shape());
  EXPECT_THAT(got.to_vector<double>(), Pointwise(DoubleNear(1e-12), want.to_vector<double>()));
}

TEST(Recurrent, IsOneNodeOfACaptureAndRunsTheSame) {
  const auto w = weights(4, 3, 2, 1);
  const auto fn = [&](const Tensors& in) {
    const RecurrentResult r = lstm(in[0], {w});
    return Tensors{r.y, r.h, r.c};
  };
  const Tensor x = random({50, 2, 3}, 9);
  const ir::Graph graph = capture(fn, {{"x", x.type()}});
  size_t loops = 0;
  for (const auto& node : graph.nodes) loops += node.op == &ops::lstm_op() ? 1 : 0;
  EXPECT_EQ(loops, 1U);
  EXPECT_LT(graph.nodes.size(), 20U);
  const Tensors want = fn({x}), got = exec::run(graph, {x});
  for (size_t i = 0; i < want.size(); ++i) expect_near(got[i], want[i]);
}

TEST(Recurrent, TheGradientInACaptureIsTheEagerOne) {
  const auto w = weights(3, 3, 2, 20);
  const auto loss = [&](const Tensors& in) {
    RecurrentWeights own = w;
    own.hidden = in[1];
    return sum(square(gru(in[0], {own}).y));
  };
  const Tensor x = random({6, 2, 3}, 30);
  const auto gradient = grad(ScalarFunction(loss));
  const Tensors want = gradient({x, w.hidden});
  const ir::Graph graph = capture(gradient, {{"x", x.type()}, {"w", w.hidden.type()}});
  const Tensors got = exec::run(graph, {x, w.hidden});
  for (size_t i = 0; i < want.size(); ++i) expect_near(got[i], want[i]);
  EXPECT_LT(graph.nodes.size(), 200U);  // loops, not steps one after the other
}

TEST(Recurrent, LengthsStopEachExample) {
  const auto w = weights(4, 3, 2, 40);
  const Tensor x = random({5, 2, 3}, 50);
  const RecurrentResult r =
      lstm(x, {w, weights(4, 3, 2, 44)}, {}, {}, {.bidirectional = true, .lengths = from_vector<int64_t>({3, 5}, {2})});
  const RecurrentResult alone =
      lstm(slice(x, {0, 1}, {0, 0}, {3, 1}), {w, weights(4, 3, 2, 44)}, {}, {}, {.bidirectional = true});
  expect_near(slice(r.y, {0, 1}, {0, 0}, {3, 1}), alone.y);
  expect_near(slice(r.h, {1}, {0}, {1}), alone.h);
  expect_near(slice(r.c, {1}, {0}, {1}), alone.c);
  expect_near(slice(r.y, {0, 1}, {3, 0}, {5, 1}), zeros({2, 1, 4}, f64));
}

TEST(Recurrent, CellsRepeatedAreTheLayer) {
  const auto w = weights(1, 3, 2, 60);
  const Tensor x = random({4, 2, 3}, 70);
  Tensor h = zeros({2, 2}, f64);
  for (int64_t t = 0; t < 4; ++t) h = rnn_cell(x[t], h, w, RnnActivation::Relu);
  expect_near(rnn(x, {w}, {}, {}, RnnActivation::Relu).h, unsqueeze(h, {0}));
}

TEST(Recurrent, DropoutIsBetweenLayersOnly) {
  const std::vector<RecurrentWeights> one{weights(3, 3, 3, 80)}, two{one[0], weights(3, 3, 3, 84)};
  const Tensor x = random({4, 2, 3}, 90);
  expect_near(gru(x, one, {}, {.dropout = 0.5}).y, gru(x, one).y);
  manual_seed(3);
  const auto a = gru(x, two, {}, {.dropout = 0.5}).y.to_vector<double>(), b = gru(x, two).y.to_vector<double>();
  EXPECT_NE(a, b);
}

TEST(Recurrent, MistakesAreNamed) {
  const auto w = weights(4, 3, 2, 1);
  const Tensor x = random({5, 2, 3}, 2);
  EXPECT_THAT(error_text([&] { (void)lstm(random({5, 2, 4}, 2), {w}); }), HasSubstr("input_weight does not fit"));
  EXPECT_THAT(error_text([&] { (void)lstm(random({5}, 2), {w}); }), HasSubstr("[T, N, in] or [T, in]"));
  EXPECT_THAT(error_text([&] { (void)lstm(x, {w}, zeros({1, 3, 2}, f64)); }), HasSubstr("h0 does not fit"));
  EXPECT_THAT(error_text([&] { (void)lstm(x, {w}, {}, zeros({1, 2, 3}, f64)); }), HasSubstr("c0 does not fit"));
  EXPECT_THAT(error_text([&] { (void)lstm(x, {}); }), HasSubstr("one entry of weights for each layer"));
  EXPECT_THAT(error_text([&] { (void)lstm(x, {w}, {}, {}, {.bidirectional = true}); }), HasSubstr("an even number"));
  EXPECT_THAT(error_text([&] { (void)lstm(x, {w}, {}, {}, {.lengths = from_vector<int64_t>({1}, {1})}); }),
              HasSubstr("lengths does not fit"));
}

}  // namespace
