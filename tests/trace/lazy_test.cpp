// The lazy mode with the simplest engine: a segment's graph is run node by node.
#include "tenon/trace/lazy.h"

#include <gtest/gtest.h>

#include <cstring>
#include <optional>

#include "tenon/base/error.h"
#include "tenon/exec/evaluate.h"
#include "tenon/tenon.h"

namespace tenon {
namespace {

struct NodeByNode final : trace::LazyEngine {
  std::vector<trace::Segment> seen;
  Tensors run(trace::Segment& segment) override {
    Tensors in;
    for (const auto& leaf : segment.leaves)
      in.push_back(from_buffer(leaf.buffer, leaf.type, leaf.strides, leaf.offset));
    seen.push_back(segment);
    return exec::run(segment.graph(), std::move(in));
  }
};

struct Net {
  nn::Linear first{8, 16}, second{16, 4};
  Tensor operator()(const Tensor& x) const { return second(relu(first(x))); }
};

std::vector<Tensor> train(int steps, NodeByNode* engine) {
  manual_seed(3);
  Net net;
  auto optimizer = optim::Adam(parameters(net), {.lr = 1e-2, .weight_decay = 0.01});
  const Tensor x = uniform({5, 8}, -1, 1), target = remainder(arange(5), 4);
  Tensors results;
  for (int i = 0; i < steps; ++i) {
    std::optional<trace::LazyRecorder> lazy;
    if (engine != nullptr) lazy.emplace(*engine);
    optimizer.zero_grad();
    const Tensor loss = cross_entropy(net(x), target);
    loss.backward();
    optimizer.step();
    if (lazy) lazy->flush("end");
    results.push_back(loss);
  }
  for (const auto& p : parameters(net)) {
    results.push_back(p.value());
    results.push_back(p.grad());
  }
  return results;
}

void expect_same_bits(const Tensor& a, const Tensor& b) {
  ASSERT_EQ(a.type(), b.type());
  const Tensor first = contiguous(a), second = contiguous(b);
  const auto x = first.data<std::byte>(), y = second.data<std::byte>();
  EXPECT_EQ(std::memcmp(x.data(), y.data(), x.size()), 0);
}

TEST(Lazy, TrainStepIsOneSegmentWithTheBitsOfEager) {
  NodeByNode engine;
  const auto eager = train(3, nullptr), lazy = train(3, &engine);
  ASSERT_EQ(eager.size(), lazy.size());
  for (size_t i = 0; i < eager.size(); ++i) expect_same_bits(eager[i], lazy[i]);
  ASSERT_EQ(engine.seen.size(), 3U) << "forward, backward and update are one graph";
  EXPECT_EQ(engine.seen[1].graph().nodes.size(), engine.seen[2].graph().nodes.size());
  EXPECT_EQ(engine.seen[1].graph().outputs, engine.seen[2].graph().outputs);
}

TEST(Lazy, ALookSplitsTheGraphAndConditionsKeepTheirMeaning) {
  NodeByNode engine;
  Tensor y;
  {
    trace::LazyRecorder lazy(engine);
    const Tensor x = tensor({1.0, 2.0, 3.0});
    Tensor s = sum(x * 2.0);
    EXPECT_FALSE(s.impl()->buffer);
    y = s.item() > 10 ? x + 1.0 : x - 1.0;
    lazy.flush("end");
  }
  EXPECT_EQ(y.to_vector<float>(), (std::vector<float>{2, 3, 4}));
  ASSERT_EQ(engine.seen.size(), 2U);
  EXPECT_EQ(engine.seen[0].reason, "a value was looked at");
  EXPECT_EQ(engine.seen[0].graph().outputs.size(), 1U) << "x * 2 is held by nobody";
}

TEST(Lazy, MemoryThatNobodyElseHoldsIsDonated) {
  NodeByNode engine;
  Variable v(tensor({1.0, 2.0}), false);
  const Tensor kept = tensor({1.0, 1.0});
  {
    trace::LazyRecorder lazy(engine);
    v.set(v.take() + kept);
    lazy.flush("end");
  }
  ASSERT_EQ(engine.seen.size(), 1U);
  EXPECT_TRUE(engine.seen[0].leaves[0].donated);
  EXPECT_FALSE(engine.seen[0].leaves[1].donated);
  EXPECT_EQ(v.value().to_vector<float>(), (std::vector<float>{2, 3}));
}

TEST(Lazy, AnExceptionLeavesVariablesAsTheHostCodeSetThem) {
  NodeByNode engine;
  Variable v(tensor({1.0, 2.0}), false);
  try {
    trace::LazyRecorder lazy(engine);
    v.set(v.value() * 3.0);
    throw std::runtime_error("stop");
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(v.value().to_vector<float>(), (std::vector<float>{3, 6}));
}

TEST(Lazy, WhatAFailedSegmentShouldHaveGivenSaysSo) {
  struct Failing final : trace::LazyEngine {
    Tensors run(trace::Segment&) override { throw ValueError({"kernel", "bad", {}, {}, {}}); }
  } engine;
  Tensor y;
  {
    trace::LazyRecorder lazy(engine);
    y = tensor({1.0}) + 1.0;
    EXPECT_THROW(lazy.flush("end"), ValueError);
  }
  try {
    static_cast<void>(y.item());
    FAIL();
  } catch (const ValueError& e) {
    EXPECT_NE(std::string(e.what()).find("never computed"), std::string::npos);
  }
}

}  // namespace
}  // namespace tenon
