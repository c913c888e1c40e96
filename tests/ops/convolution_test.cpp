// Convolution on the device against the ops' own plain loops, forward and backward.
#include "tenon/ops/convolution.h"

#include <gmock/gmock.h>

#include "tenon/exec/session.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/random.h"
#include "tenon/ops/reduce.h"
#include "tenon/trace/transforms.h"

using namespace tenon;
using testing::DoubleNear;
using testing::Pointwise;

namespace {

std::vector<double> flat(const Tensors& xs) {
  std::vector<double> all;
  for (const auto& x : xs) {
    const auto v = x.to_vector<double>();
    all.insert(all.end(), v.begin(), v.end());
  }
  return all;
}

// Result and gradients, on the device and by the reference.
void expect_equal(const std::function<Tensor(const Tensors&)>& fn, const Tensors& inputs) {
  const auto run = [&] {
    const auto r = value_and_grad(ScalarFunction([&](const Tensors& in) { return sum(square(fn(in))); }))(inputs);
    Tensors all = r.grads;
    all.push_back(fn(inputs));
    return flat(all);
  };
  const auto device = run();
  exec::Session reference({.reference = true});
  const exec::SessionScope scope(reference);
  EXPECT_THAT(device, Pointwise(DoubleNear(1e-9), run()));
}

TEST(Convolution, DeviceEqualsReference) {
  const auto r = [](const Shape& shape, uint64_t seed) { return normal(shape, 0, 0.5, f64, random_key(seed)); };
  expect_equal([](const Tensors& in) { return conv2d(in[0], in[1], in[2], {.stride = {2}, .padding = {1}}); },
               {r({2, 4, 5, 6}, 1), r({6, 4, 3, 3}, 2), r({6}, 3)});
  expect_equal([](const Tensors& in) { return conv2d(in[0], in[1], {}, {.dilation = {2}, .groups = 2}); },
               {r({2, 4, 7, 6}, 1), r({6, 2, 3, 2}, 2)});
  expect_equal([](const Tensors& in) { return conv1d(transpose(in[0], 1, 2), in[1]); },
               {r({2, 6, 3}, 1), r({2, 3, 3}, 2)});
}

TEST(Matmul, DeviceEqualsReference) {
  const auto r = [](const Shape& shape, uint64_t seed) { return normal(shape, 0, 0.5, f64, random_key(seed)); };
  expect_equal([](const Tensors& in) { return matmul(in[0], transpose(in[1])); },
               {r({3, 2, 5, 4}, 1), r({2, 6, 4}, 2)});
  expect_equal([](const Tensors& in) { return matmul(in[0], in[1]); }, {r({33, 17}, 1), r({17, 65}, 2)});
}

}  // namespace
