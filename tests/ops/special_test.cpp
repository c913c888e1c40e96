// Polygamma against mpmath with 40 digits (tools/goldens/polygamma.py), and derivatives of the gamma family.
#include "tenon/ops/special.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "tenon/base/error.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/reduce.h"
#include "tenon/trace/transforms.h"

namespace {

using namespace tenon;

double at(int64_t n, double x) { return polygamma(n, from_vector<double>({x}, {1})).item<double>(); }
double units(double got, double want) {
  return std::abs(got - want) / (std::nextafter(std::abs(want), INFINITY) - std::abs(want));
}

TEST(Polygamma, IsGoodToAFewUnitsInTheLastPlace) {
  std::ifstream file(TENON_SOURCE_DIR "/tests/ops/goldens/polygamma.json");
  const auto rows = nlohmann::json::parse(file);
  ASSERT_GT(rows.size(), 80U);
  for (const auto& row : rows) {
    const int64_t n = row[0];
    const double x = row[1], want = row[2];
    if (n == 1 || x > 0) {
      EXPECT_LE(units(at(n, x), want), n == 1 ? 6 : 40)
          << "polygamma(" << n << ", " << x << ") = " << at(n, x) << ", not " << want;
      continue;
    }
    // Left of zero the poles on both sides may cancel: the error is one of their terms.
    const double pole = std::tgamma(static_cast<double>(n) + 1) / std::pow(std::abs(x - std::round(x)), n + 1);
    EXPECT_NEAR(at(n, x), want, 1e-14 * std::max(std::abs(want), pole)) << "polygamma(" << n << ", " << x << ")";
  }
}

TEST(Polygamma, AtPolesAndInfinity) {
  EXPECT_EQ(at(1, 0), INFINITY);
  EXPECT_EQ(at(1, -3), INFINITY);
  EXPECT_TRUE(std::isnan(at(2, 0)));
  EXPECT_EQ(at(1, INFINITY), 0);
  EXPECT_TRUE(std::isnan(at(1, NAN)));
  EXPECT_THROW((void)polygamma(-1, tensor({1.0})), ValueError);
}

TEST(Polygamma, IsTheDerivativeOfDigamma) {
  const Tensor x = from_vector<double>({0.3, 1.7, -2.4}, {3});
  const auto derivative = [](const UnaryFunction& f) {
    return grad(UnaryFunction([f](const Tensor& t) { return sum(f(t)); }));
  };
  const auto first = derivative([](const Tensor& t) { return digamma(t); })(x).to_vector<double>();
  const UnaryFunction f = [](const Tensor& t) { return lgamma(t); };
  const auto third = derivative(derivative(derivative(f)))(x).to_vector<double>();
  const auto points = x.to_vector<double>();
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_DOUBLE_EQ(first[i], at(1, points[i]));
    EXPECT_DOUBLE_EQ(third[i], at(2, points[i]));
  }
}

}  // namespace
