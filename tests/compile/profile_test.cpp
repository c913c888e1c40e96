// Profiles of compiled functions: the segment, its kernels and the calls of the device.
#include <gmock/gmock.h>

#include "tenon/compile.h"
#include "tenon/tenon.h"

namespace tenon {
namespace {

TEST(CompiledProfile, HasTheKernelsWithTheirOpsInsideTheSegment) {
  const Tensor x = ones({32, 16}), w = ones({16, 8});
  auto f = compile([&] { return sum(exp(matmul(x, w)) * 2.0 + 1.0); });
  const Tensor want = f();  // compiles
  Profiler profiler;
  const Tensor got = f();
  const Profile profile = profiler.stop();
  EXPECT_EQ(got.item(), want.item());
  ASSERT_FALSE(profile.events.empty());
  EXPECT_EQ(profile.events[0].kind, "segment");
  bool product = false, fused = false;
  for (const auto& e : profile.events) {
    if (&e == &profile.events[0]) continue;
    EXPECT_EQ(e.kind, "kernel") << e.name;
    EXPECT_EQ(e.depth, 1);
    EXPECT_GT(e.bytes, 0);
    if (e.name.starts_with("matmul+")) {  // with what follows it
      product = true;
      EXPECT_EQ(e.flops, 2.0 * 32 * 16 * 8);
    }
    fused = fused || (e.name.find("exp") != std::string::npos && e.name.find("multiply") != std::string::npos);
  }
  EXPECT_TRUE(product);
  EXPECT_TRUE(fused);
}

TEST(CompiledProfile, DoesNotChangeTheBits) {
  const auto train = [](bool profiled) {
    manual_seed(3);
    models::MLP model({.inputs = 6, .hidden = 7, .outputs = 3});
    auto optimizer = optim::SGD(parameters(model), {.lr = 0.1});
    auto step = compile([&] {
      optimizer.zero_grad();
      const Tensor loss = cross_entropy(model(ones({4, 6})), zeros({4}, i64));
      loss.backward();
      optimizer.step();
      return loss;
    });
    std::unique_ptr<Profiler> profiler = profiled ? std::make_unique<Profiler>() : nullptr;
    double loss = 0;
    for (int i = 0; i < 3; ++i) loss = step().item();
    return loss;
  };
  EXPECT_EQ(train(true), train(false));
}

}  // namespace
}  // namespace tenon
