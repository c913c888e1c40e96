// Every kernel that the CPU claims against the op's own meaning, on shapes that reach their parts: several blocks,
// tails, several parts for the pool, strided inputs. The samples of the table are too small for that.
#include "tenon/device/cpu/claims.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>

#include "tenon/base/error.h"
#include "tenon/exec/session.h"
#include "tenon/ops/attention.h"
#include "tenon/ops/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/cumulative.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/loss.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/movement_ops.h"
#include "tenon/ops/normalization.h"
#include "tenon/ops/ordering.h"
#include "tenon/ops/pooling.h"
#include "tenon/ops/random.h"
#include "tenon/ops/softmax.h"
#include "tenon/tensor/tensor_view.h"
#include "tests/device/support.h"
#include "tests/support/error_text.h"

namespace tenon {
namespace {

using testing_support::error_text;

Tensor random(const Shape& shape, DType dtype, uint64_t seed, double low = -2, double high = 2) {
  std::mt19937_64 generator(seed);
  std::uniform_real_distribution<double> uniform(low, high);
  std::vector<double> values(static_cast<size_t>(numel(shape)));
  for (double& v : values) v = uniform(generator);
  return cast(from_vector(values, shape), dtype);
}
Tensor random_index(const Shape& shape, uint64_t seed, int64_t low, int64_t high, DType dtype = DType::I64) {
  std::mt19937_64 generator(seed);
  std::uniform_int_distribution<int64_t> uniform(low, high - 1);
  std::vector<int64_t> values(static_cast<size_t>(numel(shape)));
  for (int64_t& v : values) v = uniform(generator);
  return cast(from_vector(values, shape), dtype);
}

// `call` with kernels (one thread, then three: same bits) and by meaning; the largest difference, relative.
void check(const char* what, double tolerance, const std::function<Tensors()>& call) {
  std::vector<std::vector<std::vector<double>>> results;
  for (const exec::SessionOptions& options : {exec::SessionOptions{.threads = 1}, exec::SessionOptions{.threads = 3},
                                              exec::SessionOptions{.threads = 1, .claims = false}}) {
    exec::Session session(options);
    const exec::SessionScope scope(session);
    results.emplace_back();
    for (const Tensor& t : call()) {
      results.back().push_back(t.defined() ? t.to_vector<double>() : std::vector<double>{});
    }
  }
  ASSERT_EQ(results[0].size(), results[1].size());
  for (size_t r = 0; r < results[0].size(); ++r) {
    // As bytes: a NaN equals itself.
    ASSERT_EQ(results[0][r].size(), results[1][r].size());
    EXPECT_TRUE(results[0][r].empty() ||
                std::memcmp(results[0][r].data(), results[1][r].data(), results[0][r].size() * sizeof(double)) == 0)
        << what << ", result " << r << ": another number of threads, other bits";
  }
  ASSERT_EQ(results[0].size(), results[2].size());
  for (size_t r = 0; r < results[0].size(); ++r) {
    ASSERT_EQ(results[0][r].size(), results[2][r].size()) << what;
    double scale = 1e-30;
    for (double v : results[2][r]) scale = std::isfinite(v) ? std::max(scale, std::abs(v)) : scale;
    for (size_t i = 0; i < results[0][r].size(); ++i) {
      const double a = results[0][r][i];
      const double b = results[2][r][i];
      if (a == b || (std::isnan(a) && std::isnan(b))) continue;
      ASSERT_LE(std::abs(a - b), tolerance * scale) << what << ", result " << r << " at " << i << ": " << a << " " << b;
    }
  }
}

TEST(Claims, SoftmaxFamily) {
  for (DType t : {DType::F32, DType::F64}) {
    const double tolerance = t == DType::F32 ? 2e-6 : 1e-13;
    for (const Shape& shape : {Shape{300, 77}, Shape{7, 5000}, Shape{40, 3}, Shape{2, 3, 64}}) {
      const Tensor x = random(shape, t, 1, -8, 8);
      const Tensor ct = random(shape, t, 2);
      check("softmax", tolerance, [&] { return Tensors{softmax(x), log_softmax(x)}; });
      const Tensor y = softmax(x);
      const Tensor logy = log_softmax(x);
      check("softmax_grad", tolerance, [&] { return ops::call(ops::softmax_grad_op(), {ct, y}, {int64_t{-1}}); });
      check("log_softmax_grad", tolerance,
            [&] { return ops::call(ops::log_softmax_grad_op(), {ct, logy}, {int64_t{-1}}); });
    }
    const Tensor turned = transpose(random({50, 60}, t, 3));
    check("softmax of a transpose", tolerance, [&] { return Tensors{softmax(turned, -1), softmax(turned, 0)}; });
    const Tensor hidden = tensor({{-INFINITY, 0.0F, 1.0F}, {-INFINITY, -INFINITY, 2.0F}});
    check("softmax with -inf", tolerance, [&] { return Tensors{softmax(hidden)}; });
  }
}

TEST(Claims, CrossEntropy) {
  for (DType t : {DType::F32, DType::F64}) {
    for (DType index : {DType::I32, DType::I64}) {
      for (double smoothing : {0.0, 0.1}) {
        const Tensor logits = random({500, 65}, t, 4, -6, 6);
        const Tensor target = random_index({500}, 5, 0, 65, index);
        const Tensor ct = random({500}, t, 6);
        const ir::Attrs attrs{int64_t{7}, smoothing};
        check("cross_entropy", 3e-6, [&] { return ops::call(ops::cross_entropy_op(), {logits, target}, attrs); });
        check("cross_entropy_grad", 3e-6,
              [&] { return ops::call(ops::cross_entropy_grad_op(), {ct, logits, target}, attrs); });
      }
    }
  }
  EXPECT_THROW((void)cross_entropy(random({2, 3}, DType::F32, 1), random_index({2}, 1, 5, 6)), IndexError);
}

TEST(Claims, NormalizeRowsAndChannels) {
  const Tensor none;
  for (DType t : {DType::F32, DType::F64}) {
    for (bool center : {true, false}) {
      struct Case {
        Shape x;
        Ints axes;
        Shape parameter;
      };
      for (const Case& c :
           {Case{{100, 130}, {1}, {130}}, Case{{6, 9, 50}, {1, 2}, {9, 50}}, Case{{8, 20, 7, 9}, {0, 2, 3}, {20, 1, 1}},
            Case{{300, 12}, {0}, {12}}, Case{{5, 4, 6}, {1}, {4, 1}}}) {
        const Tensor x = random(c.x, t, 1, -1, 4);
        const Tensor w = random(c.parameter, t, 2);
        const Tensor b = random(c.parameter, t, 3);
        const Tensor ct = random(c.x, t, 4);
        const ir::Attrs attrs{c.axes, 1e-5, center};
        const double tolerance = t == DType::F32 ? 1e-5 : 1e-12;
        check("normalize", tolerance, [&] { return ops::call(ops::normalize_op(), {x, w, b}, attrs); });
        check("normalize, plain", tolerance, [&] { return ops::call(ops::normalize_op(), {x, none, none}, attrs); });
        check("normalize, weight", tolerance, [&] { return ops::call(ops::normalize_op(), {x, w, none}, attrs); });
        const Tensors y = ops::call(ops::normalize_op(), {x, w, b}, attrs);
        check("normalize_grad", tolerance,
              [&] { return ops::call(ops::normalize_grad_op(), {ct, x, y[1], y[2], w}, attrs); });
        check("normalize_grad, plain", tolerance,
              [&] { return ops::call(ops::normalize_grad_op(), {ct, x, y[1], y[2], none}, attrs); });
      }
    }
  }
}

TEST(Claims, Attention) {
  struct Case {
    int64_t queries, keys;
    bool causal;
    int mask;  // 0 none, 1 [queries, keys], 2 [keys] with hidden ones
  };
  // Widths of which some run in panels (many queries) and some do not.
  for (const auto& [width, value_width] : {std::pair<int64_t, int64_t>{20, 12}, {32, 48}}) {
    for (const Case& c :
         {Case{64, 64, true, 0}, Case{100, 300, false, 0}, Case{150, 600, true, 0}, Case{70, 50, true, 0},
          Case{33, 290, false, 1}, Case{40, 40, true, 2}, Case{1, 513, false, 2}, Case{200, 129, true, 1}}) {
      const Tensor q = random({2, 3, c.queries, width}, DType::F32, 1);
      const Tensor k = random({2, 3, c.keys, width}, DType::F32, 2);
      const Tensor v = random({2, 3, c.keys, value_width}, DType::F32, 3);
      const Tensor ct = random({2, 3, c.queries, value_width}, DType::F32, 4);
      Tensor mask;
      if (c.mask == 1) mask = random({c.queries, c.keys}, DType::F32, 5);
      if (c.mask == 2) mask = where(less(random({c.keys}, DType::F32, 6), 0.0), -INFINITY, 0.0F);
      const ir::Attrs attrs{c.causal, 0.2};
      check("attention", 2e-5, [&] { return ops::call(ops::attention_op(), {q, k, v, mask}, attrs); });
      const Tensors y = ops::call(ops::attention_op(), {q, k, v, mask}, attrs);
      check("attention_grad", 5e-5,
            [&] { return ops::call(ops::attention_grad_op(), {ct, q, k, v, mask, y[0], y[1]}, attrs); });
    }
  }
}

TEST(Claims, Pooling) {
  for (DType t : {DType::F32, DType::F64, DType::F16, DType::BF16}) {
    struct Case {
      Shape x;
      Ints window, stride, low, high, dilation;
      bool ceil;
    };
    for (const Case& c : {Case{{6, 5, 14, 14}, {2, 2}, {2, 2}, {0, 0}, {0, 0}, {1, 1}, false},
                          Case{{20, 3, 17, 23}, {3, 2}, {2, 3}, {1, 0}, {1, 1}, {1, 1}, true},
                          Case{{2, 3, 40}, {5}, {1}, {2}, {2}, {1}, false},
                          Case{{2, 2, 9, 10, 11}, {2, 3, 2}, {1, 2, 3}, {0, 1, 1}, {1, 1, 0}, {1, 1, 1}, false},
                          Case{{2, 3, 15, 15}, {3, 3}, {2, 1}, {1, 2}, {1, 2}, {2, 2}, false}}) {
      // Rounded, so that windows hold equal elements: the first one counts.
      const Tensor x = cast(round(random(c.x, t, 1, -3, 3)), t);
      check("max_pool", 0, [&] {
        return ops::call(ops::max_pool_op(), {x}, {c.window, c.stride, c.low, c.high, c.dilation, c.ceil});
      });
      for (bool include : {true, false}) {
        if (c.dilation[0] != 1) continue;
        const ir::Attrs attrs{c.window, c.stride, c.low, c.high, c.ceil, include};
        const double tolerance = t == DType::F64 ? 1e-14 : t == DType::F32 ? 1e-6 : t == DType::F16 ? 2e-3 : 1.6e-2;
        check("average_pool", tolerance, [&] { return ops::call(ops::average_pool_op(), {x}, attrs); });
        const Shape y = ops::call1(ops::average_pool_op(), {x}, attrs).shape();
        const Tensor ct = random(y, t, 2);
        ir::Attrs with_extents{c.window, c.stride, c.low, c.high, c.ceil, include, Ints(c.x.begin() + 2, c.x.end())};
        check("average_pool_gradient", tolerance,
              [&] { return ops::call(ops::average_pool_gradient_op(), {ct}, with_extents); });
      }
    }
  }
  Tensor x = tensor({{1.0F, NAN, 3.0F, NAN}, {2.0F, -INFINITY, -INFINITY, 0.0F}});
  x = reshape(x, {1, 1, 2, 4});
  check("max_pool of NaN", 0, [&] {
    const Ints one{1, 1}, zero{0, 0};
    return ops::call(ops::max_pool_op(), {x}, {Ints{1, 2}, one, zero, zero, one, false});
  });
}

// The kernel that is made ready for channels last gives the values of the claim: of equal elements the first, so that
// of 0 and -0 it is known which, and NaN before all.
TEST(Claims, PreparedMaxPoolHasTheBitsOfMaxPool) {
  const float special[] = {0.0F, -0.0F, NAN, INFINITY, -INFINITY, 1.0F, -1.0F};
  struct Case {
    Shape x;
    Ints window, stride, low, high, dilation;
  };
  for (const Case& c : {Case{{2, 5, 9, 12}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}},
                        Case{{1, 33, 13, 13}, {5, 5}, {1, 1}, {2, 2}, {2, 2}, {1, 1}},
                        Case{{2, 71, 6, 7}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}},
                        Case{{3, 4, 10, 11}, {2, 3}, {3, 1}, {0, 1}, {1, 0}, {2, 2}},
                        Case{{1, 400, 5, 90}, {3, 2}, {2, 1}, {1, 1}, {1, 0}, {1, 1}},  // lines some at a time
                        Case{{2, 3, 5, 6, 7}, {2, 2, 3}, {1, 2, 2}, {0, 1, 1}, {1, 1, 1}, {1, 1, 1}}}) {
    Shape last{c.x[0]};
    for (size_t d = 2; d < c.x.size(); ++d) last.push_back(c.x[d]);
    last.push_back(c.x[1]);
    const auto rank = static_cast<int64_t>(c.x.size());
    std::vector<float> values(static_cast<size_t>(numel(c.x)));
    std::mt19937 random(3);
    for (float& v : values) v = special[random() % std::size(special)];
    for (const DType dtype : {DType::F32, DType::BF16, DType::F16}) {
      const Tensor lying = permute(cast(from_vector(values, last), dtype), [&] {
        Ints axes{0, rank - 1};
        for (int64_t d = 1; d + 1 < rank; ++d) axes.push_back(d);
        return axes;
      }());
      const ir::Attrs attrs{c.window, c.stride, c.low, c.high, c.dilation, false};
      const Tensor want = ops::call(ops::max_pool_op(), {lying}, attrs)[0];
      const auto claims = cpu::cpu_claims();
      const auto claim = std::ranges::find(claims, &ops::max_pool_op(), &Claim::op);
      KeptConstants kept;
      const ConstView x = view(lying);
      const ConstView changing{nullptr, x.dtype, x.shape, x.strides, 0};
      const auto kernel = claim->prepare({{&changing, 1}, want.type(), attrs, nullptr, kept});
      ASSERT_NE(kernel, nullptr);
      Shape strides(c.x.size(), 0);
      int64_t next = 1;
      const Ints order = kernel->order();
      for (size_t i = order.size(); i-- > 0;) {
        strides[static_cast<size_t>(order[i])] = next;
        next *= want.shape()[static_cast<size_t>(order[i])];
      }
      test::Array got(dtype, want.shape(), strides, 0, want.size());
      ThreadPool pool(3);
      kernel->run({&x, 1}, {}, got.out(), pool);
      const std::vector<float> wanted = cast(want, DType::F32).to_vector<float>();
      const std::vector<double> reals = got.reals();
      for (size_t i = 0; i < wanted.size(); ++i) {
        const auto y = static_cast<float>(reals[i]);
        ASSERT_TRUE(std::bit_cast<uint32_t>(y) == std::bit_cast<uint32_t>(wanted[i]) ||
                    (std::isnan(y) && std::isnan(wanted[i])))
            << name(dtype) << ' ' << i << ": " << y << ", want " << wanted[i];
      }
    }
  }
}

TEST(Claims, Moves) {
  for (DType t : {DType::F32, DType::I64, DType::U8, DType::F16, DType::Bool, DType::F64}) {
    const Tensor x = cast(random({20, 30}, DType::F32, 1, 0, 100), t);
    check("full, iota", 0,
          [&] { return Tensors{full({300, 400}, 3, t), iota({5, 70, 6}, 1, t == DType::Bool ? DType::U8 : t)}; });
    for (const ir::Attrs& attrs :
         {ir::Attrs{Ints{1, 2}, Ints{0, 3}, Ints{0, 0}}, ir::Attrs{Ints{-3, 2}, Ints{-2, -5}, Ints{0, 1}},
          ir::Attrs{Ints{0, -7}, Ints{4, -3}, Ints{2, 3}}, ir::Attrs{Ints{-20, 0}, Ints{0, 0}, Ints{0, 0}}}) {
      check("pad", 0, [&] { return ops::call(ops::pad_op(), {x, cast(Tensor(1), t)}, attrs); });
      check("pad of a transpose", 0,
            [&] { return ops::call(ops::pad_op(), {transpose(x), cast(Tensor(0), t)}, attrs); });
    }
    check("concat", 0,
          [&] { return Tensors{concat({x, x, narrow(x, 0, 2, 5)}, 0), concat({x, narrow(x, 1, 3, 4)}, 1)}; });
    const Tensor at = random_index({50}, 2, -20, 20);
    check("take", 0,
          [&] { return Tensors{take(x, at, 0), take(transpose(x), at, 1), take(x, reshape(at, {5, 10}), -1)}; });
    const Tensor where_to = random_index({9, 30}, 3, -20, 20);
    check("take_along_axis", 0, [&] { return Tensors{take_along_axis(x, where_to, 0)}; });
    const Tensor values = cast(random({9, 30}, DType::F32, 4, 0, 100), t);
    for (ScatterMode mode : {ScatterMode::Set, ScatterMode::Add, ScatterMode::Min, ScatterMode::Max}) {
      if (t == DType::Bool && mode != ScatterMode::Set) continue;
      check("scatter_along_axis", 1e-6, [&] { return Tensors{scatter_along_axis(x, where_to, values, 0, mode)}; });
    }
    if (t == DType::Bool) continue;
    const Tensor rows = cast(random({50, 30}, DType::F32, 5, 0, 10), t);
    check("index_add", 1e-6, [&] { return Tensors{index_add(x, 0, at, rows)}; });
  }
  const Tensor table = random({40, 33}, DType::F32, 6);
  const Tensor which = random_index({7, 90}, 7, -40, 40, DType::I32);
  check("embedding", 0, [&] { return Tensors{embedding(table, which)}; });
}

TEST(Claims, RandomBits) {
  for (const Shape& shape : {Shape{1}, Shape{64}, Shape{3, 67}, Shape{100003}})
    check("random_bits", 0, [&] { return Tensors{random_bits(shape, random_key(7))}; });
  const Tensor keys = random_index({6, 3}, 4, 0, 1 << 30, DType::U32);
  check("random_bits, strided keys", 0, [&] {
    return Tensors{ops::call1(ops::random_bits_op(), {slice(keys, {0, 1}, {0, 0}, {6, 3}, {1, 2})}, {Ints{333}})};
  });
}

// Lines on both sides of the length at which the method changes, with equal elements, both zeros and NaN.
TEST(Claims, Sort) {
  for (const DType t : {DType::Bool, DType::U8, DType::I8, DType::I16, DType::U16, DType::I32, DType::U32, DType::I64,
                        DType::U64, DType::F16, DType::BF16, DType::F32, DType::F64}) {
    const bool real = is_float(t), natural = info(t).kind == DTypeKind::Unsigned || t == DType::Bool;
    Tensor x = cast(random({3, 700, 5}, DType::F64, 1, natural ? 0 : -120, 120), t);
    if (t == DType::I64) x = bitwise_xor(x, left_shift(cast(x, DType::I64), 40));
    if (real) {
      const Tensor zeros_and_nan = from_vector(std::vector<double>{-0.0, 0.0, NAN, -NAN, INFINITY, -INFINITY}, {6});
      x = concat({x, expand(reshape(cast(zeros_and_nan, t), {1, 6, 1}), {3, 6, 5})}, 1);
    }
    for (const bool descending : {false, true}) {
      check("sort", 0, [&] {
        const Sorted all = sort(x, 1, descending), few = sort(x, -1, descending);
        return Tensors{all.values, all.indices, few.values, few.indices};
      });
      check("sort, strided", 0, [&] {
        const Sorted s = sort(permute(x, {2, 0, 1}), -1, descending);
        return Tensors{s.values, s.indices};
      });
    }
  }
}

TEST(Claims, Scans) {
  for (const DType t : {DType::F32, DType::F64, DType::I32, DType::U32, DType::I64, DType::U64}) {
    const bool natural = info(t).kind == DTypeKind::Unsigned;
    const Tensor x = cast(random({3, 300, 130}, DType::F64, 1, natural ? 0 : -3, 3), t);
    for (const int64_t axis : {0, 1, 2}) {
      for (const bool exclusive : {false, true}) {
        for (const bool reverse : {false, true}) {
          check("cumsum", 0, [&] { return Tensors{cumsum(x, axis, exclusive, reverse)}; });
          check("cumprod", 0, [&] { return Tensors{cumprod(x, axis, exclusive, reverse)}; });
        }
      }
      check("extremes", 0, [&] {
        const auto high = cummax(x, axis), low = cummin(x, axis);
        return Tensors{high.values, high.indices, low.values, low.indices};
      });
    }
  }
  for (const DType t : {DType::F32, DType::F64}) {
    const Tensor x = random({3, 300, 130}, t, 1), y = random({3, 300, 130}, t, 2);
    const Tensor broken = where(greater(x, 1.9), Tensor(NAN), x);
    for (const int64_t axis : {0, 1, 2}) {
      for (const bool reverse : {false, true})
        check("linear_recurrence", 0, [&] { return Tensors{linear_recurrence(x * 0.5, y, axis, reverse)}; });
      check("logcumsumexp", 0, [&] { return Tensors{logcumsumexp(x, axis), logcumsumexp(broken, axis)}; });
      check("extremes with NaN", 0, [&] {
        const auto high = cummax(broken, axis), low = cummin(broken, axis);
        return Tensors{high.values, high.indices, low.values, low.indices};
      });
    }
  }
}

TEST(Claims, PositionsOutOfRangeAreNamed) {
  const Tensor x = random({4, 3}, DType::F32, 1);
  const Tensor bad = random_index({1}, 1, 4, 5);
  EXPECT_EQ(error_text<IndexError>([&] { (void)take(x, bad, 0); }),
            "take: index out of range on axis 0; expected -4 to 3, got 4");
  EXPECT_EQ(error_text<IndexError>([&] { (void)take_along_axis(x, random_index({1, 3}, 1, 7, 8), 0); }),
            "take_along_axis: index out of range on axis 0; expected -4 to 3, got 7");
  EXPECT_EQ(error_text<IndexError>([&] { (void)index_add(x, 0, bad, random({1, 3}, DType::F32, 2)); }),
            "index_add: index out of range on axis 0; expected -4 to 3, got 4");
}

}  // namespace
}  // namespace tenon
