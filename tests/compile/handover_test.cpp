// Results that lie where an operand lay: the arena is smaller, the bits are those of eager runs; also where every value
// has a place of its own, and where what is dead is overwritten at once.
#include <gtest/gtest.h>

#include "tenon/compile.h"
#include "tenon/tenon.h"
#include "tests/support/same_bits.h"

namespace tenon {
namespace {

using testing_support::same_bits;

struct Trained {
  Tensors results;
  compiler::ProgramReport report;  // of the last program
};
template <class Make, class Loss>
Trained train(const Make& make, const Loss& loss_of, exec::SessionOptions session, bool compiled) {
  exec::Session own(session);
  const exec::SessionScope scope(own);
  manual_seed(5);
  auto model = make();
  optim::SGD optimizer(parameters(model), {.lr = 0.05, .momentum = 0.9});
  const auto step = [&] {
    optimizer.zero_grad();
    Tensor loss = loss_of(model);
    loss.backward();
    optimizer.step();
    return loss;
  };
  auto fast = compile(step, {.verify = true, .disk = {.on = false}});
  Trained t;
  for (int i = 0; i < 3; ++i) t.results.push_back(compiled ? fast() : step());
  for (const auto& p : parameters(model)) {
    t.results.push_back(p.value());
    t.results.push_back(p.grad());
  }
  if (compiled) t.report = fast.explain().programs.back();
  return t;
}

// The bytes of the arena; those of a plan in which nothing is reused are more.
template <class Make, class Loss>
int64_t arena_of(const Make& make, const Loss& loss_of) {
  const Trained eager = train(make, loss_of, {.threads = 2}, false);
  const int64_t arena = train(make, loss_of, {.threads = 2}, true).report.arena_bytes;
  for (const exec::SessionOptions& session :
       {exec::SessionOptions{.threads = 2}, exec::SessionOptions{.threads = 1, .poison = true},
        exec::SessionOptions{.threads = 2, .reuse = false}}) {
    const Trained t = train(make, loss_of, session, true);
    EXPECT_EQ(t.results.size(), eager.results.size());
    for (size_t i = 0; i < t.results.size(); ++i)
      EXPECT_TRUE(same_bits(t.results[i], eager.results[i]))
          << "result " << i << (session.poison ? ", poisoned" : "") << (session.reuse ? "" : ", reuse off");
    if (session.reuse) {
      EXPECT_EQ(t.report.arena_bytes, arena);
    } else {
      EXPECT_GT(t.report.arena_bytes, arena);
      EXPECT_GE(t.report.arena_bytes, t.report.unplanned_bytes);
      EXPECT_EQ(t.report.donated, 0);
    }
  }
  return arena;
}

// The loss and its gradient read the logits, nobody later.
TEST(Handover, TheGradientOfLogitsLiesWhereTheyLay) {
  const Tensor x = uniform({64, 32}, -1, 1), target = remainder(arange(64) * 37, 1000);
  constexpr int64_t kLogits = int64_t{64} * 1000 * 4;
  const auto make = [] { return nn::Linear(32, 1000); };
  const int64_t arena = arena_of(make, [&](auto& m) { return cross_entropy(m(x), target); });
  EXPECT_GE(arena, kLogits);
  EXPECT_LT(arena, kLogits * 3 / 2);
  // Read once more: now they have to stay.
  EXPECT_GE(arena_of(make,
                     [&](auto& m) {
                       const Tensor logits = m(x);
                       return cross_entropy(logits, target) + mean(sin(logits));
                     }),
            2 * kLogits);
}

// A map reads an element before it writes the one in its place. The products keep it apart from all else.
TEST(Handover, AMapWritesWhereItReadsLast) {
  const Tensor x = uniform({128, 4}, -1, 1), y = uniform({4, 128}, -1, 1), z = uniform({128, 1}, -1, 1);
  const auto wide = [&] { return matmul(x, y + 1.0); };
  const auto check = [](const auto& f) {
    auto fast = compile(f, {.verify = true});
    EXPECT_TRUE(same_bits(fast(), f()));
    return fast.explain().programs[0].arena_bytes;
  };
  constexpr int64_t kWide = int64_t{128} * 128 * 4;
  EXPECT_LT(check([&] { return matmul(sin(wide()), z); }), kWide * 3 / 2);
  // Turned, it would write over what it has not read yet.
  EXPECT_GE(check([&] {
              const Tensor w = wide();
              return matmul(sin(permute(w, {1, 0})) + w, z);
            }),
            2 * kWide);
}

TEST(Handover, BlocksOfModels) {
  models::GPTConfig config;
  config.vocabulary = 64;
  config.context = 64;
  config.layers = 2;
  config.heads = 2;
  config.width = 64;
  const Tensor tokens = remainder(reshape(arange(4 * 64) * 7, {4, 64}), 64), y = remainder(arange(4 * 64) * 5, 64);
  arena_of([&] { return models::GPT(config); },
           [&](auto& m) { return cross_entropy(reshape(m(tokens), {4 * 64, 64}), y); });
  arena_of([&] { return models::GPT(config); },
           [&](auto& m) {
             const Autocast scope(bf16);
             return cross_entropy(reshape(m(tokens), {4 * 64, 64}), y);
           });
  const Tensor image = uniform({4, 8, 16, 16}, -1, 1);
  arena_of([&] { return models::BasicBlock(8, 8, 1); }, [&](auto& m) { return mean(square(m(image))); });
}

}  // namespace
}  // namespace tenon
