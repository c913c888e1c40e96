// Linear algebra by what the results must satisfy, and by numbers from NumPy (written beside).
#include "tenon/ops/linalg.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tenon/base/error.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/einsum.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/random.h"
#include "tenon/ops/reduce.h"
#include "tenon/trace/transforms.h"
#include "tests/support/error_text.h"

using namespace tenon;
using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pointwise;
using testing_support::error_text;

namespace {

Tensor matrix(const std::vector<double>& v, int64_t n) {
  return from_vector(v, {n, static_cast<int64_t>(v.size()) / n});
}
void expect_near(const Tensor& got, const Tensor& want, double tolerance = 1e-10) {
  ASSERT_EQ(got.shape(), want.shape());
  EXPECT_THAT(got.to_vector<double>(), Pointwise(DoubleNear(tolerance), want.to_vector<double>()));
}
Tensor random(const Shape& shape, uint64_t seed) { return normal(shape, 0, 1, f64, random_key(seed)); }

TEST(Linalg, DecompositionsGiveTheirMatrixBack) {
  const Tensor a = random({3, 12, 7}, 1), wide = random({5, 9}, 2), b = random({4, 8, 8}, 3);
  const Tensor definite = matmul(b, transpose(b)) + eye(8, 8, f64);
  const Tensor l = cholesky(definite);
  expect_near(matmul(l, transpose(l)), definite);
  expect_near(triu(l, 1), zeros_like(l), 0);
  for (const Tensor& m : {a, wide}) {
    const QR f = qr(m);
    expect_near(matmul(f.q, f.r), m);
    expect_near(matmul(transpose(f.q), f.q) + zeros({f.q.shape(-1), f.q.shape(-1)}, f64),
                expand(eye(f.q.shape(-1), -1, f64), matmul(transpose(f.q), f.q).shape()));
    EXPECT_TRUE(all(diagonal(f.r) >= 0.0).item<bool>());
    const SVD d = svd(m);
    expect_near(matmul(d.u * unsqueeze(d.s, {-2}), d.vh), m);
    const auto s = d.s.to_vector<double>();
    EXPECT_TRUE(std::is_sorted(s.rbegin(), s.rbegin() + d.s.shape(-1)));
  }
  const Eigh e = eigh(definite);
  expect_near(matmul(definite, e.vectors), e.vectors * unsqueeze(e.values, {-2}), 1e-8);
  const Tensor x = random({4, 8, 3}, 4);
  expect_near(matmul(b, solve(b, x)), x, 1e-8);
  expect_near(matmul(b, inverse(b)), expand(eye(8, 8, f64), {4, 8, 8}), 1e-8);
  expect_near(matmul(triu(definite), triangular_solve(definite, x, {.upper = true})), x, 1e-9);
}

TEST(Linalg, CompleteQr) {
  for (const Shape& shape : {Shape{7, 3}, Shape{2, 5, 1}, Shape{4, 4}, Shape{3, 5}}) {
    const Tensor a = random(shape, 9);
    const QR f = qr(a, QRMode::Complete);
    const int64_t m = a.shape(-2);
    EXPECT_EQ(f.q.shape(-1), m);
    EXPECT_EQ(f.r.shape(-2), m);
    expect_near(matmul(f.q, f.r), a);
    const Tensor unit = matmul(transpose(f.q), f.q);
    expect_near(unit, expand(eye(m, m, f64), unit.shape()));
  }
}

// Of a wide matrix: against central differences.
TEST(Linalg, GradientOfWideQr) {
  const Tensor a = random({2, 4}, 10), wq = random({2, 2}, 11), wr = random({2, 4}, 12);
  const auto f = [&](const Tensor& x) {
    const QR d = qr(x);
    return sum(d.q * wq) + sum(d.r * wr);
  };
  const auto g = grad(UnaryFunction(f))(a).to_vector<double>();
  const auto v = a.to_vector<double>();
  for (size_t i = 0; i < v.size(); ++i) {
    auto up = v, down = v;
    up[i] += 1e-5;
    down[i] -= 1e-5;
    const double slope =
        (f(from_vector(up, {2, 4})).item<double>() - f(from_vector(down, {2, 4})).item<double>()) / 2e-5;
    EXPECT_NEAR(g[i], slope, 1e-6 * std::max(1.0, std::abs(slope))) << i;
  }
}

TEST(Linalg, NumbersFromNumPy) {
  const Tensor a = matrix({4, 2, 7, 6}, 2);
  EXPECT_NEAR(det(a).item(), 10, 1e-12);  // numpy.linalg.det
  EXPECT_NEAR(slogdet(matrix({0, 1, 2, 0}, 2)).log_magnitude.item(), std::log(2.0), 1e-12);
  EXPECT_EQ(slogdet(matrix({0, 1, 2, 0}, 2)).sign.item(), -1);
  EXPECT_EQ(slogdet(matrix({1, 2, 2, 4}, 2)).log_magnitude.item(), -INFINITY);
  expect_near(inverse(a), matrix({0.6, -0.2, -0.7, 0.4}, 2));  // numpy.linalg.inv
  expect_near(eigh(matrix({2, 1, 1, 2}, 2)).values, from_vector<double>({1, 3}, {2}));
  expect_near(singular_values(matrix({3, 0, 0, 4}, 2)), from_vector<double>({4, 3}, {2}));
  expect_near(pinv(matrix({1, 2, 2, 4}, 2)), matrix({0.04, 0.08, 0.08, 0.16}, 2));  // numpy.linalg.pinv
  expect_near(lstsq(matrix({1, 1, 1, 2, 1, 3}, 3), matrix({1, 2, 2}, 3)), matrix({2.0 / 3, 0.5}, 2));
  expect_near(kron(matrix({1, 2}, 1), matrix({1, 10}, 1)), matrix({1, 10, 2, 20}, 1));
  EXPECT_EQ(matrix_trace(a).item(), 10);
  const Tensor x = random({2, 3, 4}, 5), y = random({3, 4, 5}, 6);
  expect_near(tensordot(x, y), einsum("abc,bcd->ad", {x, y}));
}

TEST(Linalg, MistakesAreExplained) {
  const Tensor two = stack({eye(2, 2, f64), matrix({1, 2, 2, 1}, 2)}, 0);
  EXPECT_THAT(error_text([&] { cholesky(two); }), HasSubstr("cholesky: not positive definite (matrix 1 of the batch)"));
  EXPECT_THAT(error_text([&] { solve(matrix({1, 2, 2, 4}, 2), eye(2, 2, f64)); }), HasSubstr("the matrix is singular"));
  EXPECT_THAT(error_text([&] { eigh(ones({2, 3}, f64)); }), HasSubstr("not square"));
  EXPECT_THAT(error_text([&] { solve(eye(2, 2, f64), ones({2}, f64)); }), HasSubstr("unsqueeze(b, {-1})"));
  EXPECT_THAT(error_text([&] { svd(full({2, 2}, NAN, f64)); }), HasSubstr("NaN"));
}

}  // namespace
