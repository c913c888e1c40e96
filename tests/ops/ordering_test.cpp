// Scans and order, against values computed by NumPy and PyTorch (written beside each).
#include "tenon/ops/ordering.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tenon/base/error.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/cumulative.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/reduce.h"
#include "tenon/trace/transforms.h"

using namespace tenon;
using testing::ElementsAre;

namespace {

Tensor row(const std::vector<double>& v) { return from_vector(v, {static_cast<int64_t>(v.size())}); }
std::vector<double> values(const Tensor& x) { return x.to_vector<double>(); }

TEST(Cumulative, SumsAndProducts) {
  const Tensor x = from_vector<double>({1, 2, 3, 4, 5, 6}, {2, 3});
  EXPECT_THAT(values(cumsum(x, 1)), ElementsAre(1, 3, 6, 4, 9, 15));                     // numpy.cumsum(x, 1)
  EXPECT_THAT(values(cumsum(x, 0, true)), ElementsAre(0, 0, 0, 1, 2, 3));                // ONNX CumSum, exclusive
  EXPECT_THAT(values(cumsum(x, 1, false, true)), ElementsAre(6, 5, 3, 15, 11, 6));       // ONNX CumSum, reverse
  EXPECT_THAT(values(cumprod(x, 1)), ElementsAre(1, 2, 6, 4, 20, 120));                  // numpy.cumprod(x, 1)
  EXPECT_THAT(values(cummax(row({1, 3, 2, 5, 4})).values), ElementsAre(1, 3, 3, 5, 5));  // torch.cummax
  EXPECT_THAT(cummin(row({3, 1, 1, 2})).indices.to_vector<int64_t>(), ElementsAre(0, 1, 2, 2));
  EXPECT_TRUE(std::isnan(values(cummax(row({1, NAN, 9})).values)[2]));
  EXPECT_NEAR(values(logcumsumexp(row({1000, 1000})))[1], 1000 + std::log(2.0), 1e-9);
  // Integers are as wide as those of sum: numpy.cumsum gives u64 and i64.
  EXPECT_EQ(cumsum(full({3}, 200, u8)).dtype(), u64);
  EXPECT_EQ(cumsum(full({3}, 200, u8)).to_vector<int>(), (std::vector<int>{200, 400, 600}));
  EXPECT_EQ(cumprod(full({3}, -100, i8)).to_vector<int>(), (std::vector<int>{-100, 10000, -1000000}));
  EXPECT_EQ(cumsum(tensor({true, true, false, true})).dtype(), i64);
  EXPECT_EQ(cumsum(tensor({true, true, false, true})).to_vector<int>(), (std::vector<int>{1, 2, 2, 3}));
  EXPECT_EQ(cumprod(tensor({true, false, true})).to_vector<int>(), (std::vector<int>{1, 0, 0}));
}

// torch.cumprod([1, 0, 2, 3]).sum().backward(): [1, 9, 0, 0] (nothing may be divided by the zero).
TEST(Cumulative, ProductsWithZerosHaveGradients) {
  const auto loss = [](const Tensors& in) { return sum(cumprod(in[0])); };
  EXPECT_THAT(values(grad(loss)({row({1, 0, 2, 3})})[0]), ElementsAre(1, 9, 0, 0));
}

TEST(Ordering, SortsStably) {
  const Sorted up = sort(row({3, 1, NAN, 2, 1}));
  EXPECT_THAT(up.indices.to_vector<int64_t>(), ElementsAre(1, 4, 3, 0, 2));  // numpy.argsort(kind="stable")
  EXPECT_TRUE(std::isnan(values(up.values)[4]));
  const Sorted down = sort(row({3, 1, NAN, 2, 1}), 0, true);
  EXPECT_THAT(down.indices.to_vector<int64_t>(), ElementsAre(2, 0, 3, 1, 4));  // torch.sort(descending, stable)
  EXPECT_THAT(values(topk(row({1, 9, 3, 7}), 2).values), ElementsAre(9, 7));
  EXPECT_THAT(values(topk(row({1, 9, 3, 7}), 2, 0, false).values), ElementsAre(1, 3));
  EXPECT_DOUBLE_EQ(median(row({5, 1, 4, 2})).values.item(), 2);  // torch.median: the lower of two
  EXPECT_THROW(topk(row({1, 2}), 3), ValueError);
}

TEST(Ordering, DistinctValuesAndPositions) {
  const Unique u = unique(row({2, 1, 2, 0, 1, 2}));
  EXPECT_THAT(values(u.values), ElementsAre(0, 1, 2));
  EXPECT_THAT(u.indices.to_vector<int64_t>(), ElementsAre(3, 1, 0));
  EXPECT_THAT(u.inverse.to_vector<int64_t>(), ElementsAre(2, 1, 2, 0, 1, 2));
  EXPECT_THAT(u.counts.to_vector<int64_t>(), ElementsAre(1, 2, 3));
  const Tensor m = from_vector<double>({0, 1, 2, 0}, {2, 2});
  EXPECT_THAT(nonzero(m).to_vector<int64_t>(), ElementsAre(0, 1, 1, 0));
  EXPECT_THAT(values(masked_select(m, m > 0)), ElementsAre(1, 2));
  EXPECT_THAT(searchsorted(row({1, 2, 2, 3}), row({0, 2, 4})).to_vector<int64_t>(), ElementsAre(0, 1, 4));
  EXPECT_THAT(searchsorted(row({1, 2, 2, 3}), row({2}), true).to_vector<int64_t>(), ElementsAre(3));
  EXPECT_THAT(bincount(tensor({0, 1, 1, 3})).to_vector<int64_t>(), ElementsAre(1, 2, 0, 1));
  EXPECT_THROW(bincount(tensor({-1, 1})), ValueError);
  EXPECT_THROW(masked_select(m, m), DTypeError);
}

}  // namespace
