// The loop IR of a few fused graphs as kept text, so that a change of the generated kernels is seen in review.
// To write the texts anew: TENON_WRITE_GOLDENS=1 test_compile --gtest_filter='Golden*', and look at the difference.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tenon/compile.h"
#include "tenon/tenon.h"

namespace tenon {
namespace {

void expect_golden(const std::string& name, const std::function<Tensors()>& f) {
  auto fast = compile(f, {.verify = true, .keep_text = true});
  static_cast<void>(fast());
  std::string text;
  for (const auto& program : fast.explain().programs) {
    for (const auto& kernel : program.loop_ir) text += kernel;
  }
  const auto path = std::filesystem::path(TENON_SOURCE_DIR) / "tests/compile/goldens" / (name + ".loop");
  if (std::getenv("TENON_WRITE_GOLDENS") != nullptr) {
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  std::ifstream file(path);
  ASSERT_TRUE(file) << path;
  std::stringstream want;
  want << file.rdbuf();
  EXPECT_EQ(text, want.str()) << path;
}

TEST(Golden, BiasAndGelu) {
  const Tensor x = uniform({8, 96}), b = uniform({96});
  expect_golden("bias_gelu", [&] { return Tensors{gelu(x + b)}; });
}
TEST(Golden, ScaledSoftmax) {
  const Tensor x = uniform({8, 96});
  expect_golden("softmax", [&] { return Tensors{softmax(x * 0.125)}; });
}
TEST(Golden, LayerNormAndResidual) {
  const Tensor x = uniform({8, 96}), r = uniform({8, 96}), w = uniform({96}), b = uniform({96});
  expect_golden("layer_norm", [&] {
    const Tensor y = x + r;
    return Tensors{layer_norm(y, w, b), y};
  });
}
TEST(Golden, BiasGradient) {
  const Tensor ct = uniform({100, 96}), mask = greater(ct, 0.5);
  expect_golden("bias_gradient", [&] { return Tensors{sum(where(mask, ct, 0.0), {0})}; });
}
TEST(Golden, AdamUpdate) {
  Variable p(uniform({100}));
  optim::Adam adam({p}, {});
  p.set_grad(uniform({100}));
  expect_golden("adam", [&] {
    adam.step();
    return Tensors{};
  });
}

}  // namespace
}  // namespace tenon
