// Tensors from nothing, and the operators of C++: as users write them.
#include "tenon/ops/operators.h"

#include <gmock/gmock.h>

#include "tenon/tensor/variable.h"

using namespace tenon;
using testing::ElementsAre;
using testing::IsEmpty;

namespace {

TEST(Arange, TakesNumbersOfAnyKind) {
  EXPECT_THAT(arange(3).to_vector<int>(), ElementsAre(0, 1, 2));
  EXPECT_THAT(arange(size_t{2}).to_vector<int>(), ElementsAre(0, 1));
  EXPECT_THAT(arange(1, 4).to_vector<int>(), ElementsAre(1, 2, 3));
  EXPECT_THAT(arange(0, 10, 4).to_vector<int>(), ElementsAre(0, 4, 8));
  EXPECT_THAT(arange(3, int64_t{0}, -2).to_vector<int>(), ElementsAre(3, 1));
  EXPECT_THAT(arange(3, 0).to_vector<int>(), IsEmpty());
  EXPECT_EQ(arange(0, 10, 4).dtype(), i64);
  EXPECT_EQ(arange(0, 10, 4, f32).dtype(), f32);
  EXPECT_THAT(arange(0.0, 1.0, 0.25).to_vector(), ElementsAre(0, 0.25, 0.5, 0.75));
  EXPECT_THAT(arange(0.5, 3.0).to_vector(), ElementsAre(0.5, 1.5, 2.5));
  EXPECT_THAT(arange(0, 1.5, 0.5).to_vector(), ElementsAre(0, 0.5, 1));
  EXPECT_THAT(arange(2.5).to_vector(), ElementsAre(0, 1, 2));
  EXPECT_EQ(arange(2.5).dtype(), f32);
}

TEST(Operators, CompareAndCombineMasks) {
  const Tensor x = arange(6);
  EXPECT_THAT((x == 2).to_vector<int>(), ElementsAre(0, 0, 1, 0, 0, 0));
  EXPECT_THAT((x != 2).to_vector<int>(), ElementsAre(1, 1, 0, 1, 1, 1));
  EXPECT_THAT(((x > 1) & (x < 4)).to_vector<int>(), ElementsAre(0, 0, 1, 1, 0, 0));
  EXPECT_THAT(((x < 1) | (x == 5)).to_vector<int>(), ElementsAre(1, 0, 0, 0, 0, 1));
  EXPECT_THAT(((x < 3) ^ (x > 1)).to_vector<int>(), ElementsAre(1, 1, 0, 1, 1, 1));
  EXPECT_EQ((~(x < 3)).dtype(), boolean);
  EXPECT_THAT((~(x < 3)).to_vector<int>(), ElementsAre(0, 0, 0, 1, 1, 1));
  EXPECT_THAT((x & 1).to_vector<int>(), ElementsAre(0, 1, 0, 1, 0, 1));
  EXPECT_THAT((~x).to_vector<int>(), ElementsAre(-1, -2, -3, -4, -5, -6));
  // Two Variables are compared as cells, a Variable and a tensor by value.
  const Variable a(ones({2})), b(ones({2}));
  EXPECT_FALSE(a == b);
  EXPECT_TRUE(a != b);
  EXPECT_THAT((a == Tensor(1)).to_vector<int>(), ElementsAre(1, 1));
}

}  // namespace
