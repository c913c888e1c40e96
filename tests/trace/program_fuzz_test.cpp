// Random networks of images as programs: the bits of a run node by node, for every order of axes, place in memory and
// number of examples at a time that a program chooses. Seeds that once failed are kept in kKept.
#include <gtest/gtest.h>

#include <memory>

#include "tenon/exec/evaluate.h"
#include "tenon/exec/program.h"
#include "tenon/exec/session.h"
#include "tenon/tenon.h"
#include "tests/support/random_network.h"
#include "tests/support/same_bits.h"

namespace tenon {
namespace {

exec::Program::Summary seen;  // over all networks

void expect_bits(const Tensors& got, const Tensors& want, const std::string& where) {
  ASSERT_EQ(got.size(), want.size()) << where;
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_TRUE(testing_support::same_bits(got[i], want[i])) << where << ", result " << i;
}

void check_network(uint64_t seed) {
  static exec::Session poisoned({.threads = 1, .poison = true}), many({.threads = 3});
  const NoGrad no_grad;
  manual_seed(seed);
  constexpr DType kTypes[] = {f32, f32, bf16, f16};
  testing_support::RandomNetwork network(seed, kTypes[seed % 4]);
  const Tensors in = network.inputs(1 + static_cast<int64_t>(seed / 4 % 5));
  std::ignore = network(in);  // makes the weights
  const auto graph = std::make_shared<const ir::Graph>(
      capture([&](const Tensors& x) { return network(x); },
              {{"x", in[0].type()}, {"y", in[1].type()}, {"scale", in[2].type()}}, {.check = false}));
  const Tensors want = exec::run(*graph, in);
  for (exec::Session* session : {&poisoned, &many}) {
    const exec::SessionScope scope(*session);
    const exec::Program program(graph);
    for (int time = 0; time < 2; ++time)
      expect_bits(program.run(in), want,
                  "seed " + std::to_string(seed) + (session == &poisoned ? ", poisoned" : ", three threads"));
    seen.joined += program.summary().joined;
    seen.fused += program.summary().fused;
    seen.parts += program.summary().parts;
    seen.by_example += program.summary().by_example;
  }
}

constexpr uint64_t kKept[] = {1};

TEST(ProgramFuzz, RandomNetworksHaveTheBitsOfARunNodeByNode) {
  for (const uint64_t seed : kKept) check_network(seed);
  for (uint64_t seed = 100; seed < 200 && !HasFatalFailure(); ++seed) check_network(seed);
  // That they do what programs are for.
  EXPECT_GT(seen.joined, 0);
  EXPECT_GT(seen.fused, 500);
  EXPECT_GT(seen.parts, 50);
  EXPECT_GT(seen.by_example, 50);
}

}  // namespace
}  // namespace tenon
