// Attention of bf16 and f16 against plain loops in f64 over the same elements; that bits depend on neither threads,
// batch nor layout; that memory grows with the length alone. Where the CPU has AMX or AVX-512 with bf16 these are
// blocks of it, else panels of f32: plain_avx2.test_device is the latter everywhere.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "tenon/exec/session.h"
#include "tenon/ops/attention.h"
#include "tenon/ops/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/random.h"
#include "tenon/ops/reduce.h"
#include "tenon/tensor/buffer.h"
#include "tenon/tensor/variable.h"
#include "tenon/trace/autocast.h"

namespace tenon::test {
namespace {

enum class Mask : uint8_t { None, Keys, Pairs };
struct Sizes {
  int64_t heads, queries, keys, width, value_width;
  bool causal = false;
  Mask mask = Mask::None;
};
// Around blocks of 32 and 64 queries and 128 keys; widths that fill tiles and some that do not.
std::vector<Sizes> sizes() {
  return {{2, 1, 7, 16, 8},
          {1, 5, 300, 72, 40, true},
          {1, 7, 3, 32, 32, true, Mask::Keys},
          {2, 2, 128, 64, 64},
          {3, 8, 513, 64, 64, true},
          {1, 13, 37, 64, 96, false, Mask::Pairs},
          {2, 16, 48, 20, 64, true, Mask::Pairs},
          {1, 17, 140, 64, 33, false, Mask::Keys},
          {2, 29, 290, 96, 64, true},
          {1, 32, 9, 32, 32, true},
          {1, 32, 32, 32, 32, true},
          {2, 33, 65, 64, 64, true},
          {2, 64, 128, 64, 64},
          {1, 70, 31, 33, 40, false, Mask::Keys},
          {1, 40, 20, 32, 32, true},
          {1, 130, 260, 20, 12, true, Mask::Pairs},
          {1, 65, 129, 96, 32, false, Mask::Pairs},
          {3, 150, 150, 64, 64, true}};
}

struct Inputs {
  Tensor q, k, v, ct, mask;
  ir::Attrs attrs;
};
Inputs draw(const Sizes& s, DType dtype, double scale = 0.3) {
  // [N, length, heads, width] turned, as models have them.
  const auto turned = [&](int64_t length, int64_t width, uint64_t key) {
    return transpose(cast(normal({2, length, s.heads, width}, 0, 1, f32, random_key(key)), dtype), 1, 2);
  };
  Inputs in{turned(s.queries, s.width, 1),
            turned(s.keys, s.width, 2),
            turned(s.keys, s.value_width, 3),
            turned(s.queries, s.value_width, 4),
            {},
            {s.causal, scale}};
  const double inf = std::numeric_limits<double>::infinity();
  if (s.mask == Mask::Keys) in.mask = cast(where(equal(arange(s.keys) % 3, Tensor(0)), -inf, 0.25), dtype);
  if (s.mask == Mask::Pairs) {  // the first query sees nothing
    const Tensor i = arange(s.queries * s.keys), fifth = where(equal(i % 5, Tensor(0)), -inf, 0.25);
    in.mask = cast(reshape(where(less(i, Tensor(s.keys)), -inf, fifth), {1, 1, s.queries, s.keys}), dtype);
  }
  return in;
}

Tensors forward(const Inputs& in) { return ops::call(ops::attention_op(), {in.q, in.k, in.v, in.mask}, in.attrs); }
Tensors backward(const Inputs& in, const Tensors& out) {
  return ops::call(ops::attention_grad_op(), {in.ct, in.q, in.k, in.v, in.mask, out[0], out[1]}, in.attrs);
}

// Results, and beside each element the sum of the magnitudes that were added up for it.
struct Exact {
  std::vector<double> y, log_denominator, dq, dk, dv;
  std::vector<double> y_of, dq_of, dk_of, dv_of;
};
// `y`: what the kernel gave, which the way back starts from.
Exact exact(const Inputs& in, const Sizes& s, const Tensor& given_y) {
  const auto q = in.q.to_vector<double>(), k = in.k.to_vector<double>(), v = in.v.to_vector<double>(),
             ct = in.ct.to_vector<double>(), y = given_y.to_vector<double>();
  std::vector<double> mask(static_cast<size_t>(s.queries * s.keys));
  if (in.mask.defined()) mask = expand(in.mask, {1, 1, s.queries, s.keys}).to_vector<double>();
  Exact e;
  for (auto* list : {&e.y, &e.y_of}) list->resize(y.size());
  e.log_denominator.resize(static_cast<size_t>(2 * s.heads * s.queries));
  for (auto* list : {&e.dq, &e.dq_of}) list->resize(q.size());
  for (auto* list : {&e.dk, &e.dk_of}) list->resize(k.size());
  for (auto* list : {&e.dv, &e.dv_of}) list->resize(v.size());
  const double scale = in.attrs.real(1);
  const auto keys = static_cast<size_t>(s.keys), width = static_cast<size_t>(s.width),
             value_width = static_cast<size_t>(s.value_width);
  for (size_t row = 0; row < e.log_denominator.size(); ++row) {
    const size_t matrix = row / static_cast<size_t>(s.queries), i = row % static_cast<size_t>(s.queries);
    std::vector<double> p(keys);
    double most = -std::numeric_limits<double>::infinity(), sum = 0, inner = 0, inner_of = 0;
    for (size_t j = 0; j < keys; ++j) {
      for (size_t d = 0; d < width; ++d) p[j] += q[row * width + d] * k[(matrix * keys + j) * width + d];
      p[j] = p[j] * scale + mask[i * keys + j];
      const bool hidden = s.causal && static_cast<int64_t>(j) > static_cast<int64_t>(i) + s.keys - s.queries;
      if (hidden) p[j] = -std::numeric_limits<double>::infinity();
      most = std::max(most, p[j]);
    }
    const bool none = std::isinf(most);
    for (double& x : p) sum += x = none ? 0 : std::exp(x - most);
    e.log_denominator[row] = none ? most : most + std::log(sum);
    for (double& x : p) x = none ? 0 : x / sum;
    for (size_t d = 0; d < value_width; ++d) {
      inner += ct[row * value_width + d] * y[row * value_width + d];
      inner_of += std::abs(ct[row * value_width + d] * y[row * value_width + d]);
    }
    for (size_t j = 0; j < keys; ++j) {
      double into = 0;
      for (size_t d = 0; d < value_width; ++d) {
        const size_t at = (matrix * keys + j) * value_width + d;
        e.y[row * value_width + d] += p[j] * v[at];
        e.y_of[row * value_width + d] += p[j] * std::abs(v[at]);
        e.dv[at] += p[j] * ct[row * value_width + d];
        e.dv_of[at] += p[j] * std::abs(ct[row * value_width + d]);
        into += ct[row * value_width + d] * v[at];
      }
      const double ds = p[j] * (into - inner) * scale, ds_of = p[j] * (std::abs(into) + inner_of) * scale;
      for (size_t d = 0; d < width; ++d) {
        const size_t at = (matrix * keys + j) * width + d;
        e.dq[row * width + d] += ds * k[at];
        e.dq_of[row * width + d] += ds_of * std::abs(k[at]);
        e.dk[at] += ds * q[row * width + d];
        e.dk_of[at] += ds_of * std::abs(q[row * width + d]);
      }
    }
  }
  return e;
}

// Probabilities and slopes are rounded at most once, and so is each result: half a unit in the last place each, of what
// is added up; f32 in between.
void expect_near(const Tensor& got, const std::vector<double>& want, const std::vector<double>& magnitude,
                 const char* what) {
  const double epsilon = std::ldexp(1.0, got.dtype() == bf16 ? -7 : -10);
  const auto values = got.to_vector<double>();
  ASSERT_EQ(values.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i)
    ASSERT_NEAR(values[i], want[i], (epsilon + 2e-5) * magnitude[i] + 1e-7) << what << " at " << i;
}

TEST(AttentionOfHalves, IsTheSumsInFullRoundedAtTheEnd) {
  for (const DType dtype : {bf16, f16}) {
    for (const Sizes& s : sizes()) {
      const Inputs in = draw(s, dtype);
      const Tensors out = forward(in), grads = backward(in, out);
      SCOPED_TRACE(testing::Message() << name(dtype) << " " << s.queries << " x " << s.keys << ", " << s.width);
      ASSERT_EQ(out[0].dtype(), dtype);
      ASSERT_EQ(out[1].dtype(), f32);
      const Exact e = exact(in, s, out[0]);
      expect_near(out[0], e.y, e.y_of, "y");
      const auto logs = out[1].to_vector<double>();
      for (size_t i = 0; i < logs.size(); ++i) {
        if (std::isinf(e.log_denominator[i]))
          ASSERT_EQ(logs[i], e.log_denominator[i]);
        else
          ASSERT_NEAR(logs[i], e.log_denominator[i], 1e-5 * (1 + std::abs(e.log_denominator[i])));
      }
      expect_near(grads[0], e.dq, e.dq_of, "dq");
      expect_near(grads[1], e.dk, e.dk_of, "dk");
      expect_near(grads[2], e.dv, e.dv_of, "dv");
    }
  }
}

// What is not usual: no scale, one below zero, scores of hundreds, a mask of f32.
TEST(AttentionOfHalves, TakesAnyScaleAndMask) {
  for (const double scale : {0.0, -0.5, 20.0}) {
    for (Sizes s : {Sizes{1, 40, 70, 32, 32, true}, Sizes{1, 40, 70, 32, 32, false, Mask::Keys}}) {
      Inputs in = draw(s, bf16, scale);
      if (in.mask.defined()) in.mask = cast(in.mask, f32);
      const Tensors out = forward(in);
      const Exact e = exact(in, s, out[0]);
      for (const double y : out[0].to_vector<double>()) ASSERT_TRUE(std::isfinite(y));
      // A score is the more uncertain the larger it is.
      const double epsilon = std::ldexp(1.0, -7) + 1e-5 * (1 + std::abs(scale));
      const auto values = out[0].to_vector<double>();
      for (size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(values[i], e.y[i], epsilon * e.y_of[i] + 1e-6) << scale;
    }
  }
}

void expect_same_bits(const Tensor& a, const Tensor& b) { EXPECT_EQ(a.to_vector<double>(), b.to_vector<double>()); }

TEST(AttentionOfHalves, BitsDependOnNoThreadsLayoutOrBatch) {
  const Sizes s = sizes().back();
  const Inputs in = draw(s, bf16);
  const Tensors out = forward(in), grads = backward(in, out);
  for (const int threads : {1, 2, 3}) {
    exec::Session session(exec::SessionOptions{.threads = threads});
    const exec::SessionScope scope(session);
    const Tensors again = forward(in), grads_again = backward(in, again);
    for (size_t i = 0; i < 2; ++i) expect_same_bits(again[i], out[i]);
    for (size_t i = 0; i < 3; ++i) expect_same_bits(grads_again[i], grads[i]);
  }
  Inputs one = in;
  for (Tensor* x : {&one.q, &one.k, &one.v, &one.ct}) *x = contiguous(narrow(*x, 0, 1, 1));
  const Tensors of_one = forward(one), grads_of_one = backward(one, of_one);
  for (size_t i = 0; i < 2; ++i) expect_same_bits(of_one[i], narrow(out[i], 0, 1, 1));
  for (size_t i = 0; i < 3; ++i) expect_same_bits(grads_of_one[i], narrow(grads[i], 0, 1, 1));
}

// Bytes that a step needs at most, beyond what is there before it.
int64_t peak_of(const std::function<void()>& step) {
  release_cached_memory();  // a larger block that is there already would be taken, and counted
  const int64_t before = memory_stats().current;
  reset_peak_memory();
  step();
  return memory_stats().peak - before;
}

TEST(AttentionOfHalves, MemoryGrowsWithTheLength) {
  exec::Session session(exec::SessionOptions{.threads = 1});  // how many matrices are at work is nobody's chance
  const exec::SessionScope scope(session);
  for (const bool autocast : {false, true}) {
    const auto peak = [&](int64_t length) {
      const DType dtype = autocast ? f32 : bf16;
      const auto variable = [&](uint64_t key) {
        return Variable(cast(normal({1, 2, length, 64}, 0, 1, f32, random_key(key)), dtype));
      };
      const Variable q = variable(1), k = variable(2), v = variable(3);
      return peak_of([&] {
        const Autocast cast_scope(bf16, autocast);
        const Tensor y = scaled_dot_product_attention(q, k, v, {}, {.causal = true});
        EXPECT_EQ(y.dtype(), bf16);
        sum(y).backward();
      });
    };
    const int64_t shorter = peak(1024), longer = peak(2048);
    // Scores of the longer ones in bf16 alone.
    EXPECT_LT(static_cast<double>(longer), 2.05 * static_cast<double>(shorter)) << shorter << " " << longer;
    EXPECT_LT(longer, int64_t{2} * 2048 * 2048 * 2);
  }
}

// Packed sequences and grouped heads are the same kernel.
TEST(AttentionOfHalves, PackedSequencesAndGroupedHeads) {
  const auto drawn = [](const Shape& shape, uint64_t key) {
    return cast(normal(shape, 0, 1, f32, random_key(key)), bf16);
  };
  const Tensor q = drawn({75, 4, 32}, 1), k = drawn({75, 2, 32}, 2), v = drawn({75, 2, 32}, 3);
  const Tensor packed = packed_attention(q, k, v, {0, 10, 75}, {.causal = true});
  const auto part = [](const Tensor& x) { return unsqueeze(transpose(narrow(x, 0, 10, 65), 0, 1), {0}); };
  const Tensor alone = scaled_dot_product_attention(part(q), repeat_interleave(part(k), 2, 1),
                                                    repeat_interleave(part(v), 2, 1), {}, {.causal = true});
  expect_same_bits(unsqueeze(transpose(narrow(packed, 0, 10, 65), 0, 1), {0}), alone);
}

}  // namespace
}  // namespace tenon::test
