// Buffers of temporaries go on to the calls that read them last.
#include <gtest/gtest.h>

#include <cmath>

#include "tenon/ops/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/reduce.h"
#include "tenon/tensor/buffer.h"
#include "tenon/tensor/variable.h"

namespace tenon {
namespace {

constexpr int64_t kElements = 50000, kBytes = kElements * 4;

// Bytes at most while f runs, beyond those before it.
template <class F>
int64_t peak_of(const F& f) {
  const int64_t before = memory_stats().current;
  reset_peak_memory();
  f();
  return memory_stats().peak - before;
}

TEST(Reuse, AChainNeedsTheMemoryOfOneResult) {
  const Tensor x = full({kElements}, 0.5);
  Tensor y;
  EXPECT_LT(peak_of([&] { y = exp(sin(x * 2.0 + 1.0)); }), 2 * kBytes);
  EXPECT_EQ(x.to_vector(), std::vector<double>(kElements, 0.5)) << "somebody holds x";
  EXPECT_NEAR(y[7].item(), std::exp(std::sin(2.0)), 1e-6);
}

TEST(Reuse, OneOfTwoTemporariesIsTaken) {
  const Tensor x = full({kElements}, 3.0), y = full({kElements}, 1.0);
  Tensor z;
  EXPECT_LT(peak_of([&] { z = (x + y) * (x - y); }), 3 * kBytes);
  EXPECT_EQ(z[0].item(), 8.0);
  EXPECT_EQ(x[0].item() + y[0].item(), 4.0);
}

// The derivative of a sum needs neither operand: the values on the way die at once, although the tape remembers the
// calls. That of a sine needs what it was given, until the way back has used it.
TEST(Reuse, WhatNoGradientNeedsIsFreedAlsoWhereGradientsAreWanted) {
  const Variable v(full({kElements}, 1.0));
  const int64_t before = memory_stats().current;
  Tensor y = v;
  EXPECT_LT(peak_of([&] {
              for (int i = 0; i < 10; ++i) y = y + 0.5;
            }),
            3 * kBytes);
  EXPECT_TRUE(y.requires_grad());
  EXPECT_EQ(y[0].item(), 6.0);
  for (int i = 0; i < 10; ++i) y = sin(y);
  Tensor loss = sum(y);
  y = Tensor();
  loss.backward();
  loss = Tensor();
  EXPECT_NE(v.grad()[0].item(), 0);
  EXPECT_LE(memory_stats().current - before, 2 * kBytes) << "the way back has left what it needed";
}

TEST(Reuse, AHandleThatIsKeptKeepsItsValue) {
  const Tensor x = full({kElements}, 1.0);
  const Tensor held = x + 1.0;
  const Tensor more = held * held;
  Tensor last = more;
  last = last + more;
  EXPECT_EQ(held[0].item(), 2.0);
  EXPECT_EQ(more[0].item(), 4.0);
  EXPECT_EQ(last[0].item(), 8.0);
}

TEST(Inputs, MoveTheHandlesHoweverManyThereAre) {
  const auto temporary = [] { return full({4}, 1.0); };
  ops::Inputs few{temporary(), temporary()}, many{temporary(), temporary(), temporary(), temporary(), temporary()};
  EXPECT_EQ(few.tensors().size(), 2u);
  EXPECT_EQ(many.tensors().size(), 5u);
  for (const Tensor& x : few.tensors()) EXPECT_TRUE(x.unique());
  for (const Tensor& x : std::move(few).list()) EXPECT_TRUE(x.unique());
  for (const Tensor& x : std::move(many).list()) EXPECT_TRUE(x.unique());
  EXPECT_TRUE(ops::Inputs().tensors().empty());
}

}  // namespace
}  // namespace tenon
