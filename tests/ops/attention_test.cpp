// Attention under vmap: one call of the op for the batch, with the numbers of one call for each example.
#include "tenon/ops/attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/random.h"
#include "tenon/ops/reduce.h"
#include "tenon/tensor/buffer.h"
#include "tenon/trace/capture.h"
#include "tenon/trace/transforms.h"
#include "tenon/trace/vmap.h"

namespace tenon {
namespace {

constexpr int64_t kBatch = 3;

Tensor drawn(const Shape& shape, uint64_t key, DType dtype = f32) {
  return normal(shape, 0, 1, dtype, random_key(key));
}

// Inputs of fn, each with the batch as axis 0, or whole.
struct Given {
  Tensors in;
  std::vector<bool> batched;
};
Tensors of_example(const Given& g, int64_t b) {
  Tensors in;
  for (size_t i = 0; i < g.in.size(); ++i) in.push_back(g.batched[i] ? g.in[i][b] : g.in[i]);
  return in;
}
VmapOptions axes_of(const Given& g) {
  VmapOptions options;
  for (const bool batched : g.batched) options.in_axes.push_back(batched ? 0 : kNotBatched);
  return options;
}
void expect_loop(const trace::Function& fn, const Given& g, const std::string& what, double tolerance = 0) {
  const Tensors got = vmap(fn, axes_of(g))(g.in);
  for (int64_t b = 0; b < kBatch; ++b) {
    const Tensors want = fn(of_example(g, b));
    ASSERT_EQ(got.size(), want.size());
    for (size_t k = 0; k < got.size(); ++k) {
      ASSERT_EQ(got[k].shape(0), kBatch) << what;
      ASSERT_EQ(got[k][b].shape(), want[k].shape()) << what;
      const auto x = cast(got[k][b], f64).to_vector<double>(), y = cast(want[k], f64).to_vector<double>();
      for (size_t i = 0; i < x.size(); ++i)
        ASSERT_NEAR(x[i], y[i], tolerance) << what << ", example " << b << ", result " << k << ", element " << i;
    }
  }
}

// q [n, heads, queries, 4], k and v of `keys`, with every set of them batched.
struct Sizes {
  int64_t n = 2, heads = 2, queries = 3, keys = 5;
};
Given qkv(const Sizes& s, unsigned subset, DType dtype = f32) {
  Given g;
  for (unsigned i = 0; i < 3; ++i) {
    Shape shape{s.n, s.heads, i == 0 ? s.queries : s.keys, i == 2 ? 6 : 4};
    const bool batched = ((subset >> i) & 1U) != 0;
    if (batched) shape.insert(shape.begin(), kBatch);
    g.in.push_back(drawn(shape, 10 + i, dtype));
    g.batched.push_back(batched);
  }
  return g;
}
trace::Function attend(AttentionOptions options = {}) {
  return [options](const Tensors& in) {
    return Tensors{scaled_dot_product_attention(in[0], in[1], in[2], in.size() > 3 ? in[3] : Tensor(), options)};
  };
}
// The gradients of all inputs.
trace::Function backwards(trace::Function fn) {
  return [fn = std::move(fn)](const Tensors& in) {
    const Vjp y = vjp(fn, in);
    return y.pullback({cos(y.outputs[0] * 3.0)});
  };
}

TEST(BatchedAttention, EverySetOfBatchedInputs) {
  for (unsigned subset = 1; subset < 8; ++subset) {
    for (const bool causal : {false, true}) {
      const std::string what = "inputs " + std::to_string(subset) + (causal ? ", causal" : "");
      expect_loop(attend({.causal = causal}), qkv({}, subset), what);
      expect_loop(backwards(attend({.causal = causal})), qkv({}, subset), what + ", gradient");
    }
  }
}

// Masks of every rank and with every axis of extent 1, batched or not, beside inputs that are or are not.
TEST(BatchedAttention, MasksOfEveryShape) {
  const Sizes s;
  std::vector<Shape> masks{{}, {s.keys}, {s.queries, 1}, {s.queries, s.keys}, {s.heads, 1, s.keys}, {1, s.queries, 1}};
  for (const int64_t n : {int64_t{1}, s.n}) {
    for (const int64_t heads : {int64_t{1}, s.heads}) masks.push_back({n, heads, s.queries, s.keys});
  }
  for (const Shape& mask : masks) {
    for (const unsigned subset : {7U, 1U, 6U, 0U}) {
      for (const bool batched : {false, true}) {
        if (subset == 0 && !batched) continue;
        Given g = qkv(s, subset);
        Shape shape = mask;
        if (batched) shape.insert(shape.begin(), kBatch);
        const Tensor numbers = drawn(shape, 20);
        g.batched.push_back(batched);
        const std::string what =
            "mask " + to_string(mask) + (batched ? ", batched" : "") + ", inputs " + std::to_string(subset);
        g.in.push_back(numbers);
        expect_loop(attend(), g, what);
        // The gradient of the mask itself is composed of products, whose batches may be cut in another way.
        expect_loop(backwards(attend()), g, what + ", gradient", 1e-5);
        g.in.back() = greater(numbers, -0.5);
        expect_loop(attend({.causal = true}), g, what + ", bool");
      }
    }
  }
}

TEST(BatchedAttention, GroupedHeadsLongSequencesAndOtherDtypes) {
  for (const DType dtype : {f32, f64, bf16, f16}) {
    const double tolerance = dtype == f64 ? 1e-12 : 0;
    const Given grouped{{drawn({kBatch, 2, 4, 70, 32}, 1, dtype), drawn({kBatch, 2, 2, 90, 32}, 2, dtype),
                         drawn({2, 2, 90, 32}, 3, dtype)},
                        {true, true, false}};
    expect_loop(attend({.causal = true}), grouped, "grouped", tolerance);
    const Given grouped_batch{{grouped.in[0], grouped.in[1], drawn({kBatch, 2, 2, 90, 32}, 3, dtype)},
                              {true, true, true}};
    expect_loop(backwards(attend({.causal = true})), grouped_batch, "grouped, gradient", tolerance == 0 ? 0 : 1e-10);
  }
}

TEST(BatchedAttention, PackedSequences) {
  const Given g{{drawn({kBatch, 7, 2, 4}, 1), drawn({kBatch, 7, 2, 4}, 2), drawn({7, 2, 4}, 3)}, {true, true, false}};
  expect_loop([](const Tensors& in) { return Tensors{packed_attention(in[0], in[1], in[2], {0, 3, 7})}; }, g, "packed");
}

TEST(BatchedAttention, NestedAndDifferentiatedFromOutside) {
  const Tensor q = drawn({kBatch, 2, 1, 2, 3, 4}, 1, f64), k = drawn({2, 1, 2, 5, 4}, 2, f64);
  const Tensor v = drawn({kBatch, 1, 2, 5, 4}, 3, f64), mask = drawn({kBatch, 2, 2, 3, 5}, 4, f64);
  // Of examples q [2, 1, 2, 3, 4], k the same for all, v whole for the inner batch, a mask for each inner example.
  const trace::Function inner = [&](const Tensors& in) {
    return vmap(attend({.causal = true}), {.in_axes = {0, 0, kNotBatched, 0}})({in[0], k, in[1], in[2]});
  };
  expect_loop(inner, {{q, v, mask}, {true, true, true}}, "nested", 1e-12);
  expect_loop(backwards(inner), {{q, v, mask}, {true, true, true}}, "nested, gradient inside", 1e-12);
  // The gradient of the whole batch is that of each example, and for what all share the sum over them.
  const trace::Function whole = vmap(attend(), {.in_axes = {0, kNotBatched, 0}});
  const Tensors got = backwards(whole)({q[0], k[0], narrow(v, 0, 0, 2)});
  Tensor shared = zeros_like(k[0]);
  for (int64_t b = 0; b < 2; ++b) {
    const Tensors want = backwards(attend())({q[0][b], k[0], v[b]});
    shared = shared + want[1];
    for (const size_t i : {size_t{0}, size_t{2}}) {
      const auto x = got[i][b].to_vector<double>(), y = want[i].to_vector<double>();
      for (size_t e = 0; e < x.size(); ++e) EXPECT_NEAR(x[e], y[e], 1e-12) << i << " " << e;
    }
  }
  const auto x = got[1].to_vector<double>(), y = shared.to_vector<double>();
  for (size_t e = 0; e < x.size(); ++e) EXPECT_NEAR(x[e], y[e], 1e-12) << e;
}

// What the graph has but moves of elements.
std::vector<std::string> ops_of(const ir::Graph& graph) {
  std::vector<std::string> names;
  for (const auto& node : graph.nodes) {
    if (node.op != nullptr && !std::holds_alternative<ops::Relayout>(node.op->meaning))
      names.emplace_back(node.op->name);
  }
  return names;
}

TEST(BatchedAttention, StaysOneOp) {
  const std::vector<InputSpec> specs{{"q", f32, {kBatch, 2, 2, 8, 4}},
                                     {"k", f32, {2, 2, 8, 4}},
                                     {"v", f32, {kBatch, 2, 2, 8, 4}},
                                     {"mask", f32, {2, 1, 8, 8}}};
  const trace::Function whole = vmap(attend(), {.in_axes = {0, kNotBatched, 0, kNotBatched}});
  EXPECT_EQ(ops_of(capture(whole, specs)), std::vector<std::string>{"attention"});
  // The gradient of q, k and v, for each example and of the whole batch: both ops once, and none of their bodies'.
  const auto gradient = [](const trace::Function& fn) {
    return [fn](const Tensors& in) {
      return grad([&](const Tensors& x) { return sum(square(fn({x[0], x[1], x[2], in[3]})[0])); })(
          {in[0], in[1], in[2]});
    };
  };
  for (const trace::Function& fn :
       {trace::Function(vmap(gradient(attend()), {.in_axes = {0, kNotBatched, 0, kNotBatched}})),
        trace::Function(gradient(whole))}) {
    const std::vector<std::string> found = ops_of(capture(fn, specs));
    EXPECT_EQ(std::ranges::count(found, "attention"), 1);
    EXPECT_EQ(std::ranges::count(found, "attention_grad"), 1);
    for (const char* part : {"matmul", "exp", "softmax", "logsumexp", "where"})
      EXPECT_EQ(std::ranges::count(found, part), 0) << part;
  }
}

TEST(BatchedAttention, MistakesAreThoseOfAnExample) {
  const Tensor q = ones({kBatch, 1, 2, 3, 4}), k = ones({kBatch, 1, 2, 5, 3});
  const auto text = [&](const Tensor& queries, const Tensor& keys) {
    try {
      (void)vmap(attend())({queries, keys, keys});
    } catch (const ShapeError& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_THAT(text(q, k), testing::HasSubstr("attention: keys do not fit queries; expected [1, 2, keys, 4]"));
  EXPECT_NE(text(ones({kBatch, 4}), ones({kBatch, 4})), "");
}

// 4096 by 4096 scores of 2 x 2 heads would be 268 MB.
TEST(BatchedAttention, MemoryGrowsWithTheLength) {
  const Tensor q = drawn({2, 1, 2, 4096, 8}, 1), k = drawn({1, 2, 4096, 8}, 2);
  const int64_t before = memory_stats().current;
  reset_peak_memory();
  (void)vmap(attend({.causal = true}), {.in_axes = {0, kNotBatched, kNotBatched}})({q, k, k});
  EXPECT_LT(memory_stats().peak - before, 16 << 20);
}

}  // namespace
}  // namespace tenon
