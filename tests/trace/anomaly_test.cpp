// Compiled with -g in every build type: the messages name lines of this file.
#include <gmock/gmock.h>

#include "tenon/base/error.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/reduce.h"
#include "tenon/trace/transforms.h"
#include "tests/support/error_text.h"

using namespace tenon;
using testing::HasSubstr;
using testing_support::error_text;

namespace {

std::string here(int line) { return "anomaly_test.cpp:" + std::to_string(line); }

TEST(AnomalyDetection, NamesTheLineWhereANaNWasBorn) {
  const AnomalyDetection on;
  int line = 0;
  const std::string text = error_text<NumericError>([&] {
    const Tensor x = tensor({1.0, -1.0});
    line = __LINE__ + 1;
    const Tensor y = log(x);
    (void)sum(y);
  });
  EXPECT_THAT(text, HasSubstr("log"));
  EXPECT_THAT(text, HasSubstr("NaN in the result"));
  EXPECT_THAT(text, HasSubstr(here(line)));
}

// sqrt(0) is fine, its derivative infinite; infinity times zero is the NaN. The line is that of the forward call.
TEST(AnomalyDetection, NamesTheForwardLineOfABackwardNaN) {
  const AnomalyDetection on;
  Variable w(tensor({0.0}));
  int line = 0;
  const std::string text = error_text<NumericError>([&] {
    line = __LINE__ + 1;
    const Tensor root = sqrt(w);
    sum(root * 0).backward();
  });
  EXPECT_THAT(text, HasSubstr("sqrt"));
  EXPECT_THAT(text, HasSubstr("NaN in the gradient"));
  EXPECT_THAT(text, HasSubstr(here(line)));
}

TEST(AnomalyDetection, IsOffByDefault) { EXPECT_TRUE(std::isnan(log(Tensor(-1.0)).item())); }

}  // namespace
