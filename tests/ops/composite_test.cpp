// Composites against values computed by hand or by their definition in another form.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "tenon/base/error.h"
#include "tenon/ops/attention.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/loss.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/normalization.h"
#include "tenon/ops/random.h"
#include "tenon/ops/reduce.h"
#include "tenon/ops/softmax.h"
#include "tenon/tensor/sparse_rows.h"
#include "tenon/tensor/variable.h"
#include "tenon/trace/autocast.h"

using namespace tenon;
using testing::DoubleNear;
using testing::Pointwise;

namespace {

std::vector<double> values(const Tensor& x) { return x.to_vector<double>(); }

TEST(Softmax, LargeInputsDoNotOverflow) {
  const Tensor y = softmax(tensor({1000.0, 1000.0, 0.0}));
  EXPECT_THAT(values(y), Pointwise(DoubleNear(1e-7), std::vector<double>{0.5, 0.5, 0}));
}

TEST(Linspace, EqualsNumPy) {
  // numpy.linspace(-1, 2, 7), numpy.linspace(0.1, 0.9, 5) and torch.linspace(3, -2, 6)
  EXPECT_EQ(values(linspace(-1, 2, 7, f64)), (std::vector<double>{-1, -0.5, 0, 0.5, 1, 1.5, 2}));
  EXPECT_THAT(values(linspace(0.1, 0.9, 5, f64)),
              Pointwise(testing::DoubleEq(), std::vector<double>{0.1, 0.30000000000000004, 0.5, 0.7, 0.9}));
  EXPECT_EQ(values(linspace(3, -2, 6)), (std::vector<double>{3, 2, 1, 0, -1, -2}));
  EXPECT_EQ(linspace(0, 1, 3).dtype(), f32);
  EXPECT_EQ(values(linspace(0, 9, 4, i64)), (std::vector<double>{0, 3, 6, 9}));
}

TEST(Linspace, BothEndsAreExact) {
  for (const std::int64_t count : {2, 3, 10, 1001}) {
    const auto x = values(linspace(0.1, 0.7, count, f64));
    EXPECT_EQ(x.size(), static_cast<std::size_t>(count));
    EXPECT_EQ(x.front(), 0.1) << count;
    EXPECT_EQ(x.back(), 0.7) << count;
    EXPECT_TRUE(std::is_sorted(x.begin(), x.end())) << count;
  }
  EXPECT_EQ(values(linspace(5, 9, 1)), (std::vector<double>{5}));
  EXPECT_EQ(linspace(5, 9, 0).shape(), (Shape{0}));
  EXPECT_THROW((void)linspace(5, 9, -1), Error);
}

TEST(CrossEntropy, MatchesTheFormulaAndIgnores) {
  const Tensor logits = tensor({{1.0, 2.0, 3.0}, {1.0, 1.0, 1.0}});
  const double first = std::log(std::exp(-2) + std::exp(-1) + 1);
  EXPECT_NEAR(cross_entropy(logits, tensor({2, 0})).item(), (first + std::log(3)) / 2, 1e-6);
  EXPECT_NEAR(cross_entropy(logits, tensor({2, -100})).item(), first, 1e-6);
  EXPECT_THROW((void)cross_entropy(logits, tensor({2, 3})), IndexError);
}

TEST(CrossEntropy, GradientIsProbabilityMinusTarget) {
  Variable logits(from_vector<double>({1, 2, 3}, {1, 3}));
  cross_entropy(logits, tensor({1})).backward();
  const Tensor p = softmax(logits.value().detach());
  EXPECT_THAT(values(logits.grad()), Pointwise(DoubleNear(1e-12), values(p - tensor({{0.0, 1.0, 0.0}}))));
}

TEST(LayerNorm, HasUnitStatistics) {
  const Tensor y = layer_norm(from_vector<double>({1, 2, 3, 4, 10, 20, 30, 40}, {2, 4}), {}, {}, 0);
  EXPECT_THAT(values(mean(y, {1})), Pointwise(DoubleNear(1e-12), std::vector<double>{0, 0}));
  EXPECT_THAT(values(var(y, {1}, false, 0)), Pointwise(DoubleNear(1e-12), std::vector<double>{1, 1}));
}

TEST(BatchNorm, TrainEqualsInferByItsStatistics) {
  const Tensor x = normal({4, 3, 2}, 1, 2, f64, random_key(3)), w = tensor({1.0, 2.0, 3.0}),
               b = tensor({0.5, 0.0, -1.0});
  const auto r = batch_norm_train(x, cast(w, f64), cast(b, f64));
  EXPECT_THAT(values(r.y),
              Pointwise(DoubleNear(1e-9), values(batch_norm_infer(x, r.mean, r.variance, cast(w, f64), cast(b, f64)))));
}

// As PyTorch's: short elements with parameters and statistics of f32 are normalised in f32, rounded once, and stay
// short.
TEST(BatchNorm, ShortElementsStayShort) {
  const Tensor mean = tensor({0.25F, -1.5F}), variance = tensor({0.3F, 2.0F}), w = tensor({1.1F, 0.7F}),
               b = tensor({0.5F, -1.0F});
  for (const DType half : {bf16, f16}) {
    const Tensor x = normal({4, 2, 3}, 1, 2, half, random_key(4)), wide = cast(x, f32);
    const Tensor y = batch_norm_infer(x, mean, variance, w, b);
    EXPECT_EQ(y.dtype(), half);
    EXPECT_EQ(values(cast(y, f64)), values(cast(cast(batch_norm_infer(wide, mean, variance, w, b), half), f64)));
    const auto trained = batch_norm_train(x, w, b), want = batch_norm_train(wide, w, b);
    EXPECT_EQ(trained.y.dtype(), half);
    EXPECT_EQ(trained.mean.dtype(), f32);
    EXPECT_EQ(values(cast(trained.y, f64)), values(cast(cast(want.y, half), f64)));
  }
  const Autocast scope(bf16);
  EXPECT_EQ(batch_norm_infer(ones({1, 2, 2}, bf16), mean, variance, w, b).dtype(), bf16);
}

TEST(Attention, CausalFirstQuerySeesTheFirstKeyAlone) {
  const Tensor q = normal({1, 2, 3, 4}, 0, 1, f64, random_key(1)), k = normal({1, 2, 3, 4}, 0, 1, f64, random_key(2));
  const Tensor v = normal({1, 2, 3, 4}, 0, 1, f64, random_key(3));
  const Tensor y = scaled_dot_product_attention(q, k, v, {}, {.causal = true});
  EXPECT_THAT(values(select(y, 2, 0)), Pointwise(DoubleNear(1e-12), values(select(v, 2, 0))));
}

TEST(Attention, GroupedQueriesRepeatHeads) {
  const Tensor q = normal({1, 4, 3, 2}, 0, 1, f64, random_key(1)), k = normal({1, 2, 3, 2}, 0, 1, f64, random_key(2));
  EXPECT_EQ(values(scaled_dot_product_attention(q, k, k)),
            values(scaled_dot_product_attention(q, repeat_interleave(k, 2, 1), repeat_interleave(k, 2, 1))));
}

TEST(Attention, PackedSequencesSeeThemselvesAlone) {
  const Tensor q = normal({5, 2, 4}, 0, 1, f64, random_key(1));
  const Tensor whole = packed_attention(q, q, q, {0, 2, 5});
  const Tensor part = packed_attention(narrow(q, 0, 2, 3), narrow(q, 0, 2, 3), narrow(q, 0, 2, 3), {0, 3});
  EXPECT_EQ(values(narrow(whole, 0, 2, 3)), values(part));
}

TEST(Philox, KnownAnswers) {
  // Random123's kat_vectors: philox4x32-10 with counter 0 and key 0.
  EXPECT_EQ(random_bits({4}, random_key(0)).to_vector<int64_t>(),
            (std::vector<int64_t>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
}

TEST(Random, MomentsAndReproducibility) {
  const Tensor x = normal({20000}, 2, 3, f32, random_key(5));
  EXPECT_NEAR(mean(x).item(), 2, 0.1);
  EXPECT_NEAR(tenon::std(x).item(), 3, 0.1);
  manual_seed(1);
  const auto a = values(uniform({3}));
  const auto b = values(uniform({3}));
  manual_seed(1);
  EXPECT_EQ(a, values(uniform({3})));
  EXPECT_NE(a, b);
}

TEST(Dropout, ScalesWhatItKeeps) {
  Variable x(ones({10000}));
  const Tensor y = dropout(x, 0.25, random_key(9));
  EXPECT_NEAR(mean(y).item(), 1, 0.03);
  sum(y).backward();
  EXPECT_EQ(values(x.grad()), values(y));
}

TEST(Embedding, SparseGradientHoldsTheRowsUsed) {
  Variable table(ones({100, 2}));
  sum(embedding(table, tensor({3, 7, 3}), true)).backward();
  ASSERT_NE(sparse_rows(table.grad()), nullptr);
  EXPECT_EQ(sparse_rows(table.grad())->indices.to_vector<int64_t>(), (std::vector<int64_t>{3, 7, 3}));
}

TEST(Scatter, LastOfRepeatedPositionsStays) {
  const Tensor y = scatter_along_axis(zeros({3}), tensor({1, 1}), tensor({5.0, 6.0}), 0);
  EXPECT_EQ(values(y), (std::vector<double>{0, 6, 0}));
}

}  // namespace
