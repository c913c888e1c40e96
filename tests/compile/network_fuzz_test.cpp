// Random networks of images: eager and compiled agree bit for bit, in what they give and in the gradients by inputs and
// weights. Seeds that once failed are kept in kNetworks.
#include <gtest/gtest.h>

#include "../support/random_network.h"
#include "tenon/compile.h"
#include "tenon/tenon.h"
#include "tests/support/same_bits.h"

namespace tenon {
namespace {

using testing_support::RandomNetwork;

void check_network(uint64_t seed) {
  static exec::Session poisoned({.threads = 2, .poison = true});
  manual_seed(seed);
  constexpr DType kTypes[] = {f32, f32, f32, bf16, f16};
  RandomNetwork network(seed, kTypes[seed % 5], 8);
  Tensors all = network.inputs(1 + static_cast<int64_t>(seed / 5 % 4));
  const size_t own = all.size();
  std::ignore = network(all);  // makes the weights
  all.insert(all.end(), network.weights.begin(), network.weights.end());
  const auto loss = [&](const Tensors& in) {
    const Tensors given(in.begin() + static_cast<std::ptrdiff_t>(own), in.end());
    Tensor sum_of_all(0.0);
    for (const Tensor& y : network({in[0], in[1], in[2]}, given)) sum_of_all = sum_of_all + mean(cast(sin(y), f32));
    return sum_of_all;
  };
  const auto step = [&] {
    Tensors results = network(all);
    const Tensors gradients = grad(loss)(all);
    results.insert(results.end(), gradients.begin(), gradients.end());
    return results;
  };
  const Tensors want = step();
  const exec::SessionScope scope(seed % 4 < 2 ? poisoned : exec::session());
  CompileOptions options{.verify = true, .disk = {.on = false}};
  if (seed % 2 == 0) options.recompute_from = 0;
  auto fast = compile(step, options);
  for (int time = 0; time < 2; ++time) {
    const Tensors got = fast();
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_TRUE(testing_support::same_bits(got[i], want[i]))
          << "seed " << seed << ", result " << i << " " << to_string(want[i].type());
  }
}

constexpr uint64_t kNetworks[] = {1};

TEST(NetworkFuzz, GradientsHaveTheBitsOfAnEagerRun) {
  for (const uint64_t seed : kNetworks) check_network(seed);
  for (uint64_t seed = 100; seed < 140 && !HasFatalFailure(); ++seed) check_network(seed);
}

}  // namespace
}  // namespace tenon
