// NumPy's published vectors of elementary functions: input, correctly rounded output, tolerance in ulp.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/device/support.h"

namespace tenon::test {
namespace {

struct Case {
  std::string name;
  ir::ScalarOp op;
};
class NumpyVectors : public testing::TestWithParam<Case> {};

template <class T, class Bits>
double ulps(T a, T b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) == std::isnan(b) ? 0 : 1e30;
  const auto ordered = [](T x) {
    const auto bits = std::bit_cast<std::make_signed_t<Bits>>(x);
    return bits < 0 ? std::numeric_limits<std::make_signed_t<Bits>>::min() - bits : bits;
  };
  const auto x = ordered(a);
  const auto y = ordered(b);
  return static_cast<double>(x > y ? static_cast<Bits>(x) - static_cast<Bits>(y)
                                   : static_cast<Bits>(y) - static_cast<Bits>(x));
}

template <class T, class Bits>
void check(ir::ScalarOp op, const std::vector<Bits>& in, const std::vector<Bits>& want,
           const std::vector<double>& tol) {
  ThreadPool pool(1);
  for (int level : {2, 3, 4}) {
    const auto cpu = make_cpu_device({.max_level = level});
    const auto n = static_cast<int64_t>(in.size());
    Array x(dtype_of<T>, {n});
    Array y(dtype_of<T>, {n});
    for (size_t i = 0; i < in.size(); ++i) x.data<Bits>()[i] = in[i];
    const auto program = program_of({dtype_of<T>}, [&](auto s) { return apply_op(op, std::array{s[0]}); });
    cpu->elementwise(program, std::array{x.in()}, y.out(), pool);
    double worst = 0;
    for (size_t i = 0; i < in.size(); ++i) {
      const double miss = ulps<T, Bits>(y.data<T>()[i], std::bit_cast<T>(want[i]));
      worst = std::max(worst, miss);
      EXPECT_LE(miss, tol[i]) << "level " << level << ", f(" << std::bit_cast<T>(in[i]) << ") = " << y.data<T>()[i]
                              << ", want " << std::bit_cast<T>(want[i]);
    }
  }
}

TEST_P(NumpyVectors, AreMetAtEveryCpuLevel) {
  const std::filesystem::path folder =
      std::filesystem::path(TENON_SHARED_DATA) / "numpy_testdata" / "numpy" / "_core" / "tests" / "data";
  std::ifstream file(folder / ("umath-validation-set-" + GetParam().name + ".csv"));
  if (!file) GTEST_SKIP() << "NumPy's test vectors are not at " << folder;
  std::vector<uint32_t> in32;
  std::vector<uint32_t> want32;
  std::vector<uint64_t> in64;
  std::vector<uint64_t> want64;
  std::vector<double> tol32;
  std::vector<double> tol64;
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("np.")) continue;
    const size_t a = line.find(',');
    const size_t b = line.find(',', a + 1);
    const size_t c = line.find(',', b + 1);
    const uint64_t in = std::strtoull(line.c_str() + a + 1, nullptr, 16);
    const uint64_t want = std::strtoull(line.c_str() + b + 1, nullptr, 16);
    const double tolerance = std::strtod(line.c_str() + c + 1, nullptr);
    if (line.starts_with("np.float32")) {
      in32.push_back(static_cast<uint32_t>(in));
      want32.push_back(static_cast<uint32_t>(want));
      tol32.push_back(tolerance);
    } else {
      in64.push_back(in);
      want64.push_back(want);
      tol64.push_back(tolerance);
    }
  }
  ASSERT_GT(in32.size(), 100u);
  check<float, uint32_t>(GetParam().op, in32, want32, tol32);
  check<double, uint64_t>(GetParam().op, in64, want64, tol64);
}

using enum ir::ScalarOp;
INSTANTIATE_TEST_SUITE_P(All, NumpyVectors,
                         testing::Values(Case{"arccos", Acos}, Case{"arccosh", Acosh}, Case{"arctan", Atan},
                                         Case{"arctanh", Atanh}, Case{"cbrt", Cbrt}, Case{"cos", Cos},
                                         Case{"cosh", Cosh}, Case{"exp", Exp}, Case{"expm1", Expm1},
                                         Case{"log1p", Log1p}, Case{"log2", Log2}, Case{"sin", Sin}, Case{"sinh", Sinh},
                                         Case{"tanh", Tanh}),
                         [](const auto& param) { return param.param.name; });

// The f32 functions written here against the C library's in f64, over every 1009th float.
TEST(MathFunctions, AreWithinTwoUlpOfF64) {
  struct Row {
    ir::ScalarOp op;
    double (*reference)(double);
    double bound;
  };
  const Row rows[] = {
      {Exp, std::exp, 1.5},   {Exp2, std::exp2, 1.0},   {Expm1, std::expm1, 1.0}, {Log, std::log, 1.5},
      {Log2, std::log2, 1.0}, {Log10, std::log10, 1.0}, {Log1p, std::log1p, 1.0}, {Sin, std::sin, 1.0},
      {Cos, std::cos, 1.0},   {Sinh, std::sinh, 1.0},   {Cosh, std::cosh, 1.0},   {Tanh, std::tanh, 2.0},
      {Erf, std::erf, 2.0},
  };
  ThreadPool pool(1);
  const auto cpu = make_cpu_device();
  std::vector<float> in;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 1009)
    in.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  const auto n = static_cast<int64_t>(in.size());
  const Array x = Array::of(in, {n});
  Array y(DType::F32, {n});
  for (const Row& row : rows) {
    const auto program = program_of({DType::F32}, [&](auto s) { return apply_op(row.op, std::array{s[0]}); });
    cpu->elementwise(program, std::array{x.in()}, y.out(), pool);
    double worst = 0;
    float where = 0;
    for (size_t i = 0; i < in.size(); ++i) {
      const double want = row.reference(static_cast<double>(in[i]));
      const float got = y.data<float>()[i];
      const auto nearest = static_cast<float>(want);
      if (std::isnan(want) || std::isinf(nearest)) {
        // At the very edge of overflow either answer is an ulp away.
        const bool edge = std::isinf(nearest) && std::isfinite(want) && got == std::numeric_limits<float>::max();
        ASSERT_TRUE(edge || (std::isnan(want) ? std::isnan(got) : got == nearest))
            << info(row.op).name << "(" << in[i] << ") = " << got << ", want " << want;
        continue;
      }
      // ilogb(0) is the smallest int; a wanted zero has no ulp and is judged below.
      const int exponent = want == 0 ? -126 : std::ilogb(want);
      const double ulp = std::max(std::ldexp(1.0, exponent - 23), std::ldexp(1.0, -149));
      const double miss = want == 0 ? (got == 0 ? 0 : 1e9) : std::abs(static_cast<double>(got) - want) / ulp;
      if (!(miss <= worst)) {
        worst = miss;
        where = in[i];
      }
    }
    EXPECT_LE(worst, row.bound) << info(row.op).name << " at " << where;
    RecordProperty(std::string(info(row.op).name), std::to_string(worst));
  }
}

}  // namespace
}  // namespace tenon::test
