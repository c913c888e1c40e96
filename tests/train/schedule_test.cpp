#include "tenon/train/schedule.h"

#include <gtest/gtest.h>

#include "tenon/base/error.h"

namespace tenon::train {
namespace {

TEST(Schedule, CosineIsNanoGpts) {
  // get_lr(it) of nanoGPT's train.py with learning_rate 1e-3, min_lr 1e-4, warmup_iters 100, lr_decay_iters 2000.
  const auto lr = cosine_schedule({.peak = 1e-3, .floor = 1e-4, .warmup = 100, .steps = 2000});
  EXPECT_DOUBLE_EQ(lr(0), 9.900990099009902e-06);
  EXPECT_DOUBLE_EQ(lr(99), 0.0009900990099009901);
  EXPECT_DOUBLE_EQ(lr(100), 1e-3);
  EXPECT_NEAR(lr(1050), 5.5e-4, 1e-18);
  EXPECT_DOUBLE_EQ(lr(2000), 1e-4);
  EXPECT_DOUBLE_EQ(lr(5000), 1e-4);
}

TEST(Schedule, LinearStepAndConstant) {
  const auto linear = linear_schedule({.peak = 1, .floor = 0.5, .warmup = 0, .steps = 10});
  EXPECT_DOUBLE_EQ(linear(0), 1);
  EXPECT_DOUBLE_EQ(linear(5), 0.75);
  EXPECT_DOUBLE_EQ(linear(99), 0.5);
  const auto steps = step_schedule({.peak = 1, .floor = 0.001, .warmup = 0, .steps = 30, .every = 10, .factor = 0.1});
  EXPECT_DOUBLE_EQ(steps(9), 1);
  EXPECT_DOUBLE_EQ(steps(10), 0.1);
  EXPECT_DOUBLE_EQ(steps(25), 0.01);
  EXPECT_DOUBLE_EQ(steps(900), 0.001);
  const auto constant = constant_schedule({.peak = 2, .warmup = 1, .steps = 5});
  EXPECT_DOUBLE_EQ(constant(0), 1);
  EXPECT_DOUBLE_EQ(constant(4), 2);
}

TEST(Schedule, UnknownNameSuggests) {
  try {
    (void)schedule_from_name("cosin", {});
    FAIL();
  } catch (const ValueError& error) {
    EXPECT_STREQ(error.what(),
                 "schedule_from_name: unknown schedule; expected constant, cosine, linear, step, got \"cosin\"\n"
                 "  try: schedule_from_name(\"cosine\", options)");
  }
}

}  // namespace
}  // namespace tenon::train
