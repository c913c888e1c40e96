// Random graphs: eager, compiled by the interpreter and compiled by LLVM agree bit for bit. Seeds that once failed are
// kept in kSeeds.
#include <gtest/gtest.h>

#include <cstring>

#include "../support/random_graph.h"
#include "tenon/compile.h"
#include "tenon/tenon.h"

namespace tenon {
namespace {

using testing_support::RandomGraph;

// The first difference; NaNs are equal to each other.
std::string difference(const Tensors& got, const Tensors& want) {
  if (got.size() != want.size()) return "another number of results";
  for (size_t i = 0; i < got.size(); ++i) {
    if (got[i].type() != want[i].type()) return "type of result " + std::to_string(i);
    const auto a = got[i].to_vector<float>(), b = want[i].to_vector<float>();
    for (size_t k = 0; k < a.size(); ++k) {
      if (std::memcmp(&a[k], &b[k], 4) != 0 && !(a[k] != a[k] && b[k] != b[k]))
        return "result " + std::to_string(i) + " element " + std::to_string(k) + " of " + to_string(got[i].type());
    }
  }
  return "";
}

int64_t recomputed = 0;  // values, over all graphs

// Dead values are overwritten, as is memory that is new.
exec::Session& poisoned() {
  static exec::Session session({.threads = 2, .poison = true});
  return session;
}

void check(uint64_t seed, bool interpret) {
  manual_seed(seed);
  const Tensors inputs = RandomGraph::inputs(seed % 3 == 0 ? 70 : 6);
  RandomGraph graph(seed);
  const Tensors want = graph(inputs);
  const exec::SessionScope scope(seed % 4 < 2 ? poisoned() : exec::session());
  for (bool fuse : {true, false}) {
    CompileOptions options{.fuse = fuse, .interpret = interpret, .verify = true, .keep_text = true};
    // Values of any size are made again where that lowers the peak.
    if (seed % 2 == 0) options.recompute_from = 0;
    auto fast = compile([&] { return graph(inputs); }, options);
    for (int time = 0; time < 2; ++time)
      ASSERT_EQ(difference(fast(), want), "") << "seed " << seed << (fuse ? "" : ", unfused") << "\n"
                                              << to_string(fast.explain());
    for (const auto& program : fast.explain().programs) recomputed += program.recomputed;
  }
}

// One compiled function over many sizes: the first is compiled for itself, the others share general kernels.
void check_sizes(uint64_t seed, bool interpret) {
  manual_seed(seed);
  RandomGraph graph(seed);
  const exec::SessionScope scope(seed % 4 < 2 ? poisoned() : exec::session());
  Tensors inputs;
  CompileOptions options{.interpret = interpret, .verify = true, .keep_text = true};
  if (seed % 2 == 0) options.recompute_from = 0;
  auto fast = compile([&] { return graph(inputs); }, options);
  for (int64_t n : {6, 9, 70, 64, 128, 7}) {
    inputs = RandomGraph::inputs(n);
    const Tensors want = graph(inputs);
    ASSERT_EQ(difference(fast(), want), "") << "seed " << seed << " size " << n << "\n" << to_string(fast.explain());
  }
}

constexpr uint64_t kSeeds[] = {1, 2, 3};

TEST(GraphFuzz, KeptSeeds) {
  for (uint64_t seed : kSeeds) check(seed, false);
}
TEST(GraphFuzz, SizesThatChange) {
  for (uint64_t seed = 2000; seed < 2200; ++seed) {
    check_sizes(seed, true);
    if (HasFatalFailure()) return;
  }
  for (uint64_t seed = 3000; seed < 3020; ++seed) {
    check_sizes(seed, false);
    if (HasFatalFailure()) return;
  }
}
TEST(GraphFuzz, CompiledByTheInterpreter) {
  for (uint64_t seed = 100; seed < 500; ++seed) {
    check(seed, true);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(recomputed, 30);
}
TEST(GraphFuzz, CompiledByLlvm) {
  for (uint64_t seed = 1000; seed < 1040; ++seed) {
    check(seed, false);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace tenon
