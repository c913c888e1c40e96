// Mistakes that are easily made, and what says so; edges where NumPy and PyTorch have an answer.
#include <gmock/gmock.h>

#include <cmath>

#include "tenon/base/error.h"
#include "tenon/ops/attention.h"
#include "tenon/ops/convolution.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/cumulative.h"
#include "tenon/ops/einsum.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/index.h"
#include "tenon/ops/linalg.h"
#include "tenon/ops/loss.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/normalization.h"
#include "tenon/ops/operators.h"
#include "tenon/ops/random.h"
#include "tenon/ops/reduce.h"
#include "tenon/ops/softmax.h"
#include "tenon/tensor/variable.h"
#include "tenon/trace/transforms.h"
#include "tenon/trace/vmap.h"
#include "tests/support/error_text.h"

using namespace tenon;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing_support::error_text;

namespace {

Tensor u8s(const std::vector<int>& values) {
  return cast(from_vector<int>(values, {static_cast<int64_t>(values.size())}), u8);
}

TEST(Undefined, EveryUseIsATypedError) {
  const Variable w(ones({2}));
  const Tensor u = w.grad();  // backward() has not run
  const std::vector<std::function<void()>> uses{
      [&] { (void)u.shape(); },
      [&] { (void)u.shape(0); },
      [&] { (void)u.ndim(); },
      [&] { (void)u.size(); },
      [&] { (void)u.dtype(); },
      [&] { (void)u.is_contiguous(); },
      [&] { (void)u.has_elements(); },
      [&] { (void)u.item(); },
      [&] { (void)u.to_vector<float>(); },
      [&] { (void)u[0]; },
      [&] { (void)(u + 1.0); },
      [&] { (void)(u < 3); },
      [&] { (void)reshape(u, {2}); },
      [&] { (void)matmul(u, u); },
      [&] { (void)einsum("i->", {u}); },
      [&] { (void)index(u, {0}); },
      [&] { (void)set(u, {0}, 1); },
      [&] { (void)split(u, {1, 1}); },
      [&] { (void)concat({u, u}); },
      [&] { (void)stack({u, u}); },
      [&] { (void)flatten(u); },
      [&] { (void)squeeze(u); },
      [&] { (void)transpose(u); },
      [&] { (void)cast(u, f64); },
      [&] { (void)zeros_like(u); },
      [&] { (void)cumsum(u); },
      [&] { (void)conv2d(u, u); },
      [&] { (void)solve(u, u); },
      [&] { (void)inverse(u); },
      [&] { (void)layer_norm(u); },
      [&] { (void)tril(u); },
      [&] { (void)cross_entropy(u, tensor({1})); },
      [&] { (void)scaled_dot_product_attention(u, u, u); },
      [&] { (void)split_key(u); },
      [&] { (void)grad(UnaryFunction([](const Tensor& x) { return sum(x); }))(u); },
      [&] { (void)jvp([](const Tensors& in) { return in; }, {u}, {u}); },
      [&] { (void)vmap([](const Tensors& in) { return in; })({u}); },
      [&] { u.backward(); },
      [&] { (void)Variable(u); },
      [&] { Variable(ones({2})).set(u); },
  };
  for (size_t i = 0; i < uses.size(); ++i) {
    EXPECT_THROW(uses[i](), Error) << "use " << i;
  }
  EXPECT_THAT(error_text<ValueError>([&] { (void)u.shape(); }),
              AllOf(HasSubstr("Tensor: the tensor is undefined"), HasSubstr("backward() has reached w")));
  EXPECT_FALSE(u.detach().defined());
}

TEST(Undefined, VariablesWithoutACell) {
  Variable q;
  const std::vector<std::function<void()>> uses{
      [&] { (void)q.dtype(); }, [&] { (void)q.shape(); }, [&] { (void)q.grad(); },  [&] { q.zero_grad(); },
      [&] { (void)q.name(); },  [&] { q.set_name("q"); }, [&] { q.set(ones({})); }, [&] { q.set_trainable(false); },
      [&] { (void)q.clone(); }, [&] { (void)q.take(); },  [&] { (void)(q + 1.0); }, [&] { q.set_grad(ones({})); },
  };
  for (size_t i = 0; i < uses.size(); ++i) EXPECT_THROW(uses[i](), ValueError) << "use " << i;
  EXPECT_FALSE(q.trainable());
}

// NumPy 2: OverflowError: Python integer 300 out of bounds for uint8.
TEST(Numbers, ThatTheDtypeCannotHoldAreErrors) {
  const Tensor x = u8s({1, 200});
  const Tensor mask = tensor({true, false});
  const std::vector<std::function<void()>> uses{
      [&] { (void)(x + 300); },
      [&] { (void)(x - 256); },
      [&] { (void)(-1 * x); },
      [&] { (void)maximum(x, 300); },
      [&] { (void)clamp(x, -5, 300); },
      [&] { (void)where(mask, x, -1); },
      [&] { (void)set(x, {0}, 300); },
      [&] { (void)set(x, {mask}, -1); },
      [&] { (void)full({2}, 300, u8); },
      [&] { (void)full({2}, -1, u64); },
      [&] { (void)full({2}, NAN, i32); },
      [&] { (void)full_like(x, 256); },
      [&] { (void)(cast(x, i8) + 128); },
      [&] { (void)(cast(x, i32) + (int64_t{1} << 31)); },
      [&] { (void)(cast(x, u64) + -1); },
      [&] { Variable(zeros({}, u8)).set(300); },
  };
  for (size_t i = 0; i < uses.size(); ++i) EXPECT_THROW(uses[i](), ValueError) << "use " << i;
  EXPECT_THAT(error_text<ValueError>([&] { (void)(x + 300); }),
              AllOf(HasSubstr("add: the number does not fit u8; expected 0 to 255, got 300"), HasSubstr("cast")));
  EXPECT_THAT(error_text<ValueError>([&] { (void)(cast(x, i8) + 128); }), HasSubstr("expected -128 to 127, got 128"));
}

TEST(Numbers, ThatFitKeepTheDtype) {
  const Tensor x = u8s({1, 200});
  EXPECT_EQ((x + 255).dtype(), u8);
  EXPECT_THAT((x + 255).to_vector<int>(), ElementsAre(0, 199));  // tensors wrap, as NumPy's do
  EXPECT_THAT((cast(tensor({1, 2}), i8) + -128).to_vector<int>(), ElementsAre(-127, -126));
  EXPECT_EQ((cast(x, u64) + std::numeric_limits<int64_t>::max()).dtype(), u64);
  EXPECT_EQ((cast(x, i64) + std::numeric_limits<int64_t>::min()).dtype(), i64);
  EXPECT_EQ(full({1}, 255, u8).item<int>(), 255);
  EXPECT_EQ(full({1}, -1.5, i8).item<int>(), -1);  // cut, as numpy.full does
  EXPECT_EQ(full({1}, 9.223372036854775807e18, i64).item<int64_t>(), std::numeric_limits<int64_t>::max());
  EXPECT_EQ((x * 2.5).dtype(), f32);
  EXPECT_EQ((tensor({true}) + 300).item<int>(), 301);
  EXPECT_EQ(cast(Tensor(300), u8).item<int>(), 44);  // who casts has asked for it
}

// NumPy 2 compares exactly: numpy.uint8(1) == -1 is False, < 300 is True.
TEST(Numbers, CompareAsTheNumbersThatTheyAre) {
  const Tensor x = u8s({1, 44});
  EXPECT_THAT((x < 300).to_vector<bool>(), ElementsAre(true, true));
  EXPECT_THAT((x == 300).to_vector<bool>(), ElementsAre(false, false));  // 300 wraps to 44
  EXPECT_THAT((x != 300).to_vector<bool>(), ElementsAre(true, true));
  EXPECT_THAT((x >= -1).to_vector<bool>(), ElementsAre(true, true));
  EXPECT_THAT((x == -1).to_vector<bool>(), ElementsAre(false, false));
  EXPECT_THAT(less(-212, x).to_vector<bool>(), ElementsAre(true, true));  // -212 wraps to 44
  const Tensor wide = cast(tensor({-1, 0}), u64);                         // 2^64 - 1, 0
  EXPECT_THAT((wide == -1).to_vector<bool>(), ElementsAre(false, false));
  EXPECT_THAT((wide > -1).to_vector<bool>(), ElementsAre(true, true));
  EXPECT_THAT((wide <= -1).to_vector<bool>(), ElementsAre(false, false));
}

// torch.softmax(torch.zeros(2, 0), 1): shape [2, 0]; torch.logsumexp(torch.zeros(3, 0), 1): -inf three times.
TEST(Empty, SoftmaxAndLogsumexp) {
  EXPECT_EQ(softmax(zeros({2, 0})).shape(), (Shape{2, 0}));
  EXPECT_EQ(log_softmax(zeros({2, 0})).shape(), (Shape{2, 0}));
  EXPECT_EQ(softmax(zeros({0, 3})).shape(), (Shape{0, 3}));
  EXPECT_THAT(logsumexp(zeros({3, 0}), {1}).to_vector(), ElementsAre(-INFINITY, -INFINITY, -INFINITY));
  EXPECT_EQ(logsumexp(zeros({3, 0}), {1}, true).shape(), (Shape{3, 1}));
  EXPECT_EQ(logsumexp(zeros({0})).item(), -INFINITY);
  EXPECT_THAT(logsumexp(zeros({0, 3}), {1}).to_vector(), IsEmpty());
  EXPECT_EQ(grad(UnaryFunction([](const Tensor& x) { return sum(softmax(x)); }))(zeros({2, 0})).shape(), (Shape{2, 0}));
}

TEST(Random, NumbersThatMakeNoDistributionAreErrors) {
  EXPECT_THAT(error_text<ValueError>([] { (void)randint(0, 200, {3}, i8); }),
              HasSubstr("randint: the number does not fit i8; expected -128 to 127, got 199"));
  EXPECT_THROW((void)randint(-1, 2, {3}, u8), ValueError);
  EXPECT_THROW((void)randint(std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max(), {3}),
               ValueError);
  const Tensor all = randint(-128, 128, {2000}, i8);
  EXPECT_EQ(min(all).item<int>(), -128);
  EXPECT_EQ(max(all).item<int>(), 127);
  EXPECT_THAT(error_text<DTypeError>([] { (void)normal({2}, 0, 1, i32); }), HasSubstr("randint"));
  EXPECT_THROW((void)uniform({2}, 0, 1, i64), DTypeError);
  EXPECT_THROW((void)exponential({2}, 1, i64), DTypeError);
  EXPECT_THROW((void)gumbel({2}, i64), DTypeError);
  EXPECT_THAT(error_text<ValueError>([] { (void)uniform({2}, 1, 0); }), HasSubstr("low <= high, got 1 and 0"));
  EXPECT_THROW((void)truncated_normal({2}, 0, 1, 2, -2), ValueError);
  EXPECT_THAT(error_text<ValueError>([] { (void)normal({2}, 0, -1); }), HasSubstr("normal: the standard deviation"));
  EXPECT_THROW((void)normal({2}, 0, NAN), ValueError);
  EXPECT_THROW((void)bernoulli(-1, {2}), ValueError);
  EXPECT_THROW((void)bernoulli(1.5, {2}), ValueError);
  EXPECT_EQ(sum(bernoulli(1, {9})).item<int>(), 9);
  EXPECT_EQ(uniform({1}, 2, 2).item(), 2);
}

TEST(ErrorTexts, NameWhatWasCalled) {
  EXPECT_THAT(error_text([] { (void)tile(arange(2), {-1}); }), HasSubstr("tile: a negative number of repeats"));
  EXPECT_THAT(error_text([] { (void)inverse(zeros({2, 3})); }), HasSubstr("inverse: the matrix is not square"));
  EXPECT_THAT(error_text([] { (void)eye(-3); }), HasSubstr("eye: a negative number of rows"));
  EXPECT_THAT(error_text([] { (void)zeros({-1}); }), HasSubstr("zeros: a shape has a negative extent"));
  EXPECT_THAT(error_text([] { (void)ones({2, -1}); }), HasSubstr("ones: a shape has a negative extent"));
  EXPECT_THAT(error_text([] { (void)linspace(0, 1, -1); }), HasSubstr("linspace: a negative number of values"));
  EXPECT_THAT(error_text([] { (void)layer_norm(zeros({2, 3}), zeros({4})); }),
              HasSubstr("layer_norm: the weight does not fit the last axes of the input; expected [3], got [4]"));
  EXPECT_THAT(error_text([] { (void)rms_norm(zeros({2, 3}), zeros({4})); }), HasSubstr("rms_norm: the weight"));
  EXPECT_THAT(error_text<DTypeError>([] { (void)set(cast(tensor({1, 2}), i4), {0}, 1); }),
              HasSubstr("set: the elements of this dtype are for storage only"));
}

TEST(Reductions, StddevIsStd) {
  const Tensor x = tensor({1.0, 2.0, 4.0});
  EXPECT_EQ(stddev(x).item(), tenon::std(x).item());
  EXPECT_NEAR(stddev(x, {}, false, 0).item(), 1.247219, 1e-6);  // numpy.std
}

// torch.linalg.vector_norm(x, p).backward() at x = 0: 0 for every p.
TEST(Norm, HasNoGradientWhereItIsZero) {
  for (const double p : {2.0, 1.0, 3.0, 0.5, 0.0, double(INFINITY)}) {
    const auto f = [p](const Tensor& x) { return sum(norm(x, p, {1})); };
    const Tensor g = grad(UnaryFunction(f))(from_vector<double>({0, 0, 3, -4}, {2, 2}));
    EXPECT_EQ(g[0][0].item(), 0) << p;
    EXPECT_EQ(g[0][1].item(), 0) << p;
    if (p == 2) {
      EXPECT_DOUBLE_EQ(g[1][0].item(), 0.6);
      EXPECT_DOUBLE_EQ(g[1][1].item(), -0.8);
    }
    if (p == 3) {
      EXPECT_NEAR(g[1][1].item(), -16 / std::pow(27 + 64, 2.0 / 3), 1e-12);
    }
    if (p == 0.5) {
      EXPECT_NEAR(g[1][0].item(), (std::sqrt(3.0) + 2) / std::sqrt(3.0), 1e-12);
    }
    if (std::isinf(p)) {
      EXPECT_EQ(g[1][1].item(), -1);
    }
  }
  const auto length = [](const Tensor& x) { return norm(x); };
  EXPECT_THAT(hessian(length, from_vector<double>({3, 4}, {2})).to_vector(),
              ElementsAre(testing::DoubleNear(16 / 125.0, 1e-12), testing::DoubleNear(-12 / 125.0, 1e-12),
                          testing::DoubleNear(-12 / 125.0, 1e-12), testing::DoubleNear(9 / 125.0, 1e-12)));
}

}  // namespace
