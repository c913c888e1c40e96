#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tenon/ops/opdef.h"
#include "tests/device/support.h"

namespace tenon::test {
namespace {

using ops::ReduceKind;

Shape remaining(const Shape& shape, const Ints& axes) {
  Shape out;
  for (size_t d = 0; d < shape.size(); ++d) {
    if (std::find(axes.begin(), axes.end(), static_cast<int64_t>(d)) == axes.end()) out.push_back(shape[d]);
  }
  return out;
}

Array reduced(ReduceKind kind, const Array& in, const Ints& axes, DType dtype, int threads = 1, int level = 4) {
  ThreadPool pool(threads);
  Array out(dtype, remaining(in.type.shape, axes));
  make_cpu_device({.max_level = level})->reduce(kind, in.in(), axes, out.out(), pool);
  return out;
}

// The obvious loop in f64 (exact for the small integers used here).
std::vector<double> naive(ReduceKind kind, const Array& in, const Ints& axes) {
  const Shape shape = in.type.shape;
  const Shape kept = remaining(shape, axes);
  const std::vector<double> values = in.reals();
  std::vector<double> result(static_cast<size_t>(numel(kept)));
  std::vector<double> best(result.size());
  std::vector<int64_t> seen(result.size(), 0);
  Shape index(shape.size(), 0);
  for (double v : values) {
    size_t at = 0;
    for (size_t d = 0; d < shape.size(); ++d) {
      if (std::find(axes.begin(), axes.end(), static_cast<int64_t>(d)) == axes.end()) {
        at = at * static_cast<size_t>(shape[d]) + static_cast<size_t>(index[d]);
      }
    }
    double& r = result[at];
    const bool first = seen[at] == 0;
    const bool better_max = first || (std::isnan(v) ? !std::isnan(best[at]) : v > best[at]);
    const bool better_min = first || (std::isnan(v) ? !std::isnan(best[at]) : v < best[at]);
    switch (kind) {
      case ReduceKind::Sum:
        r = first ? v : r + v;
        break;
      case ReduceKind::Prod:
        r = first ? v : r * v;
        break;
      case ReduceKind::Max:
        if (better_max) r = best[at] = v;
        break;
      case ReduceKind::Min:
        if (better_min) r = best[at] = v;
        break;
      case ReduceKind::Any:
        r = first ? v != 0 : (r != 0 || v != 0);
        break;
      case ReduceKind::All:
        r = first ? v != 0 : (r != 0 && v != 0);
        break;
      case ReduceKind::ArgMax:
        if (better_max) {
          best[at] = v;
          r = static_cast<double>(seen[at]);
        }
        break;
      case ReduceKind::ArgMin:
        if (better_min) {
          best[at] = v;
          r = static_cast<double>(seen[at]);
        }
        break;
    }
    ++seen[at];
    for (size_t d = shape.size(); d-- > 0;) {
      if (++index[d] < shape[d]) break;
      index[d] = 0;
    }
  }
  return result;
}

struct Case {
  Shape shape;
  Ints axes;
};
const std::vector<Case> kCases{
    {{7}, {0}},
    {{10000}, {0}},
    {{33, 100}, {1}},
    {{33, 100}, {0}},
    {{33, 100}, {0, 1}},
    {{5, 200, 6}, {1}},
    {{5, 200, 6}, {0, 2}},
    {{4, 3, 50, 7}, {0, 2, 3}},
    {{1, 5, 1}, {0, 2}},
    {{3, 5}, {}},
    {{2, 1, 3}, {1}},
    {{300, 2}, {0}},
    {{2, 5000}, {1}},
    {{3, 2, 3, 2, 3}, {1, 3}},
};

TEST(Reduce, EveryKindDtypeAndAxesAgreeWithALoop) {
  for (DType dtype : {DType::F32, DType::F64, DType::F16, DType::BF16, DType::I8, DType::U8, DType::I32, DType::I64,
                      DType::U64, DType::I16, DType::U16, DType::U32}) {
    for (const Case& c : kCases) {
      for (ReduceKind kind : {ReduceKind::Sum, ReduceKind::Max, ReduceKind::Min, ReduceKind::Prod, ReduceKind::ArgMax,
                              ReduceKind::ArgMin}) {
        Array in(dtype, c.shape);
        const bool prod = kind == ReduceKind::Prod;
        // Small whole numbers: sums are exact in every dtype. Products of a few twos.
        in.fill([&](int64_t i) { return prod ? (i % 97 == 0 ? 2 : 1) : static_cast<double>((i * 29 + 3) % 3); });
        const bool place = kind == ReduceKind::ArgMax || kind == ReduceKind::ArgMin;
        const bool exact = kind != ReduceKind::Sum && !prod;
        DType to = place ? DType::I64 : dtype;
        if (!exact && is_integer(dtype)) to = DType::I64;
        if (!exact && (dtype == DType::F16 || dtype == DType::BF16) && numel(c.shape) > 200) continue;
        if (prod && numel(c.shape) > 5000) continue;
        EXPECT_EQ(reduced(kind, in, c.axes, to, 2).reals(), naive(kind, in, c.axes))
            << name(dtype) << to_string(c.shape) << " over " << to_string(c.axes) << ", kind "
            << static_cast<int>(kind);
      }
    }
  }
}

TEST(Reduce, StridedInputsGiveTheBitsOfTheirCopies) {
  ThreadPool pool(1);
  const auto cpu = make_cpu_device();
  Array x(DType::F32, {70, 90}, {1, 70}, 0, 6300);
  x.fill_random(3);
  Array plain(DType::F32, {70, 90});
  cpu->copy(x.in(), plain.out(), pool);
  for (const Ints& axes : {Ints{0}, Ints{1}, Ints{0, 1}}) {
    EXPECT_EQ(reduced(ReduceKind::Sum, x, axes, DType::F32).reals(),
              reduced(ReduceKind::Sum, plain, axes, DType::F32).reals());
  }
  Array broadcast(DType::F32, {40, 30}, {0, 1}, 0, 30);
  broadcast.fill_random(4);
  EXPECT_EQ(reduced(ReduceKind::Max, broadcast, {0}, DType::F32).reals(), naive(ReduceKind::Max, broadcast, {0}));
}

TEST(Reduce, SameBitsForAnyThreadsAndLevel) {
  for (const Case& c :
       {Case{{1 << 20}, {0}}, Case{{3000, 300}, {0}}, Case{{300, 3000}, {1}}, Case{{64, 16, 900}, {0, 2}}}) {
    Array x(DType::F32, c.shape);
    x.fill_random(7);
    const std::vector<double> want = reduced(ReduceKind::Sum, x, c.axes, DType::F32, 1, 2).reals();
    for (int threads : {1, 2, 5}) {
      for (int level : {2, 3, 4}) {
        EXPECT_EQ(reduced(ReduceKind::Sum, x, c.axes, DType::F32, threads, level).reals(), want);
      }
    }
  }
}

// A naive f32 sum of a million numbers near 1 is off by far more.
TEST(Reduce, LongSumsKeepTheirDigits) {
  const int64_t n = 1 << 22;
  Array x(DType::F32, {n});
  x.fill_random(11, 0.5, 1.5);
  double want = 0;
  for (int64_t i = 0; i < n; ++i) want += static_cast<double>(x.data<float>()[i]);
  EXPECT_NEAR(reduced(ReduceKind::Sum, x, {0}, DType::F32).reals()[0] / want, 1, 2e-7);
  Array columns(DType::F32, {n / 4, 4});
  columns.memory = x.memory;
  const std::vector<double> sums = reduced(ReduceKind::Sum, columns, {0}, DType::F32).reals();
  EXPECT_NEAR((sums[0] + sums[1] + sums[2] + sums[3]) / want, 1, 3e-7);
}

TEST(Reduce, NarrowFloatsRoundOnce) {
  Array x(DType::BF16, {1000});
  x.fill([](int64_t) { return 1.0; });
  EXPECT_EQ(reduced(ReduceKind::Sum, x, {0}, DType::BF16).reals()[0], 1000);  // 256 + 1 = 256 in bf16
}

TEST(Reduce, IntegersWrapInTheResultsWidth) {
  const Array x = Array::of<int8_t>({100, 100, -100, 100, 100}, {5});
  EXPECT_EQ(reduced(ReduceKind::Sum, x, {0}, DType::I8).reals()[0], 300 - 256);
  EXPECT_EQ(reduced(ReduceKind::Sum, x, {0}, DType::I64).reals()[0], 300);
  EXPECT_EQ(reduced(ReduceKind::Prod, x, {0}, DType::I64).reals()[0], -1e10);
}

TEST(Reduce, BoolsAndTruthOfNumbers) {
  Array x(DType::Bool, {3, 4});
  x.fill([](int64_t i) { return i == 5 || i / 4 == 2 ? 1 : 0; });
  EXPECT_EQ(reduced(ReduceKind::Any, x, {1}, DType::Bool).reals(), (std::vector<double>{0, 1, 1}));
  EXPECT_EQ(reduced(ReduceKind::All, x, {1}, DType::Bool).reals(), (std::vector<double>{0, 0, 1}));
  EXPECT_EQ(reduced(ReduceKind::Sum, x, {0, 1}, DType::I64).reals(), (std::vector<double>{5}));
  EXPECT_EQ(reduced(ReduceKind::ArgMax, x, {1}, DType::I64).reals(), (std::vector<double>{0, 1, 0}));
  for (DType dtype : {DType::F32, DType::F16, DType::I64}) {
    Array y(dtype, {2, 2});
    y.fill([](int64_t i) { return i < 2 ? -static_cast<double>(i) : 0; });
    EXPECT_EQ(reduced(ReduceKind::Any, y, {1}, DType::Bool).reals(), (std::vector<double>{1, 0}));
  }
}

TEST(Reduce, NanIsTheLargestAndTheSmallest) {
  const Array x = Array::of<float>({1, NAN, 3, NAN, 5, 4, 9, 9}, {2, 4});
  EXPECT_EQ(reduced(ReduceKind::ArgMax, x, {1}, DType::I64).reals(), (std::vector<double>{1, 2}));
  EXPECT_EQ(reduced(ReduceKind::ArgMin, x, {1}, DType::I64).reals(), (std::vector<double>{1, 1}));
  EXPECT_TRUE(std::isnan(reduced(ReduceKind::Max, x, {1}, DType::F32).reals()[0]));
  Array big(DType::F32, {3, 500});
  big.fill([](int64_t i) { return i == 700 ? NAN : static_cast<double>(i); });
  for (ReduceKind kind : {ReduceKind::Max, ReduceKind::Min}) {
    EXPECT_TRUE(std::isnan(reduced(kind, big, {1}, DType::F32).reals()[1]));
    EXPECT_TRUE(std::isnan(reduced(kind, big, {0}, DType::F32).reals()[200]));
  }
}

TEST(Reduce, OfNothing) {
  const Array x(DType::F32, {0, 3});
  EXPECT_EQ(reduced(ReduceKind::Sum, x, {0}, DType::F32).reals(), (std::vector<double>{0, 0, 0}));
  EXPECT_EQ(reduced(ReduceKind::Prod, x, {0}, DType::F32).reals(), (std::vector<double>{1, 1, 1}));
  EXPECT_EQ(reduced(ReduceKind::Sum, x, {1}, DType::F32).reals(), (std::vector<double>{}));
  const Array h(DType::F16, {0});
  EXPECT_EQ(reduced(ReduceKind::Prod, h, {0}, DType::F16).reals(), (std::vector<double>{1}));
  const Array b(DType::Bool, {0});
  EXPECT_EQ(reduced(ReduceKind::Any, b, {0}, DType::Bool).reals(), (std::vector<double>{0}));
  EXPECT_EQ(reduced(ReduceKind::All, b, {0}, DType::Bool).reals(), (std::vector<double>{1}));
}

}  // namespace
}  // namespace tenon::test
