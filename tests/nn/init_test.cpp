// Initial values: the bounds and deviations of PyTorch's torch.nn.init (each number below is what it documents or
// gives).
#include "tenon/nn/init.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "tenon/base/error.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/random.h"
#include "tests/support/error_text.h"

namespace {

using namespace tenon;
using testing::HasSubstr;
using testing_support::error_text;

const Shape kFilters{64, 32, 3, 3};  // fan-in 288, fan-out 576

// Every value lies within the bound, the farthest close to it, and mean and deviation are a uniform distribution's
// (five deviations of the estimates).
void expect_uniform(const Tensor& x, double bound) {
  const auto v = x.to_vector<double>();
  const auto n = static_cast<double>(v.size());
  double sum = 0, squares = 0, largest = 0;
  for (const double a : v) sum += a, squares += a * a, largest = std::max(largest, std::abs(a));
  EXPECT_LE(largest, bound * (1 + 1e-6));
  EXPECT_GT(largest, 0.999 * bound);
  EXPECT_NEAR(sum / n, 0, 5 * bound / std::sqrt(3 * n));
  EXPECT_NEAR(std::sqrt(squares / n), bound / std::sqrt(3.0), 5 * bound / std::sqrt(3.0) * std::sqrt(0.2 / n));
}

TEST(Init, KaimingUniformHasPyTorchsBounds) {
  using nn::init::FanMode;
  using nn::init::kaiming_uniform;
  manual_seed(3);
  expect_uniform(kaiming_uniform(kFilters), 0.14433756729740643);                          // sqrt(6 / 288)
  expect_uniform(kaiming_uniform(kFilters, {.mode = FanMode::Out}), 0.10206207261596577);  // sqrt(6 / 576)
  expect_uniform(kaiming_uniform(kFilters, {.nonlinearity = "linear"}), 0.10206207261596577);
  expect_uniform(kaiming_uniform(kFilters, {.nonlinearity = "tanh"}), 0.17010345435994292);   // 5 / 3 sqrt(3 / 288)
  expect_uniform(kaiming_uniform(kFilters, {.slope = std::sqrt(5.0)}), 0.05892556509887896);  // what Linear begins with
  expect_uniform(kaiming_uniform({300, 50}, {.nonlinearity = "relu", .dtype = f64}), 0.3464101615137755);
  EXPECT_EQ(kaiming_uniform({300, 50}, {.dtype = f64}).dtype(), f64);
  EXPECT_EQ(kaiming_uniform(kFilters).shape(), kFilters);
  manual_seed(3);
  const auto first = kaiming_uniform({4, 4}).to_vector<float>();
  manual_seed(3);
  EXPECT_EQ(kaiming_uniform({4, 4}).to_vector<float>(), first);
  EXPECT_THAT(error_text<ShapeError>([] { (void)kaiming_uniform({5}); }), HasSubstr("two"));
  EXPECT_THAT(error_text<ValueError>([] { (void)kaiming_uniform({5, 5}, {.nonlinearity = "rellu"}); }),
              HasSubstr("relu"));
}

TEST(Init, OrthogonalMatricesAre) {
  for (const Shape& shape : {Shape{6, 4}, Shape{4, 6}, Shape{5, 5}}) {
    const Tensor q = nn::init::orthogonal(shape, 2, f64);
    const Tensor unit = shape[0] > shape[1] ? matmul(transpose(q, 0, 1), q) : matmul(q, transpose(q, 0, 1));
    const auto got = unit.to_vector<double>();
    const std::int64_t n = std::min(shape[0], shape[1]);
    for (std::int64_t i = 0; i < n * n; ++i)
      EXPECT_NEAR(got[static_cast<std::size_t>(i)], i % (n + 1) == 0 ? 4 : 0, 1e-12);
  }
}

TEST(Init, TruncatedNormalsKeepWithin) {
  const auto v = nn::init::trunc_normal({200, 200}, 1, 2, 0, 3).to_vector<double>();
  const auto [least, most] = std::ranges::minmax_element(v);
  EXPECT_GE(*least, 0);
  EXPECT_LE(*most, 3);
  EXPECT_LT(*least, 0.01);
  EXPECT_GT(*most, 2.99);
}

TEST(Init, WithoutValuesNothingIsComputed) {
  namespace init = nn::init;
  const init::WithoutValues scope;
  for (const Tensor& x : {init::normal({4, 4}), init::uniform({4, 4}), init::orthogonal({4, 4}), init::eye({4, 4}),
                          init::kaiming_uniform({4, 4})}) {
    EXPECT_EQ(x.shape(), (Shape{4, 4}));
    ASSERT_TRUE(x.is_concrete());
    EXPECT_EQ(x.impl()->buffer->size(), 4U) << "one zero for all elements";
    EXPECT_EQ(x.to_vector(), std::vector<double>(16, 0));
  }
}

}  // namespace
