// Debug mode inside compiled functions. Compiled with -g in every build type: the messages name lines of this file.
#include <gmock/gmock.h>

#include <cmath>

#include "tenon/base/error.h"
#include "tenon/compile.h"
#include "tenon/tenon.h"

namespace tenon {
namespace {

using testing::HasSubstr;

TEST(CompiledDebugMode, NamesOpLayerAndLine) {
  models::MLP model({.inputs = 2, .hidden = 3, .outputs = 2});
  auto optimizer = optim::SGD(parameters(model), {.lr = 0.1});
  int line = 0;
  auto step = compile([&](const Tensor& x) {
    optimizer.zero_grad();
    const Tensor y = model(x);
    line = __LINE__ + 1;
    const Tensor loss = mean(log(y - y));
    loss.backward();
    optimizer.step();
    return loss;
  });
  const Tensor x = ones({4, 2});
  EXPECT_TRUE(std::isinf(step(x).item()));  // nobody looks
  const DebugMode debug;
  // The weights are NaN by now, so the first step's are put back.
  models::MLP fresh({.inputs = 2, .hidden = 3, .outputs = 2});
  load_state_dict(model, state_dict(fresh));
  try {
    (void)step(x);
    FAIL() << "no error";
  } catch (const NumericError& error) {
    EXPECT_THAT(error.what(), HasSubstr("log"));
    EXPECT_THAT(error.what(), HasSubstr("infinity in the result"));
    EXPECT_THAT(error.what(), HasSubstr("debug_test.cpp:" + std::to_string(line)));
  }
  model.fc1.weight.set(full({3, 2}, 3e38f));
  try {
    (void)step(full({4, 2}, 10.0f));
    FAIL() << "no error";
  } catch (const NumericError& error) {
    EXPECT_THAT(error.what(), HasSubstr("matmul (fc1)"));
  }
}

TEST(CompiledDebugMode, HasTheBitsOfTheCompiledRun) {
  const Tensor x = normal({16, 8});
  auto f = compile([](const Tensor& t) { return softmax(exp(t) * 0.5 + t, -1); });
  const auto plain = f(x).to_vector<float>();
  const DebugMode debug;
  EXPECT_EQ(f(x).to_vector<float>(), plain);
}

TEST(Explain, SaysWhoLookedAtAValue) {
  int line = 0;
  auto f = compile([&](const Tensor& x) {
    const Tensor y = x * 2.0;
    line = __LINE__ + 1;
    const double first = y[0].item();
    const Tensor places = nonzero(y - first);
    return y + sum(places);
  });
  EXPECT_EQ(f(tensor({1.0, 2.0})).to_vector<float>(), (std::vector<float>{3, 5}));
  const Explanation e = f.explain();
  ASSERT_GE(e.programs.size(), 3U);
  EXPECT_THAT(e.programs[0].ended, HasSubstr("a value was looked at by debug_test.cpp:" + std::to_string(line)));
  EXPECT_EQ(e.programs[1].ended, "nonzero looked at a value");
  EXPECT_EQ(e.programs.back().ended, "the end of the function");
}

}  // namespace
}  // namespace tenon
