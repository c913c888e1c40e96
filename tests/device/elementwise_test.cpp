#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "tenon/base/error.h"
#include "tenon/data/random.h"
#include "tenon/device/cpu/level.h"
#include "tenon/tensor/low_precision.h"
#include "tests/device/support.h"

namespace tenon::test {
namespace {

using enum ir::ScalarOp;
using Scalars = std::span<const ir::Scalar>;

ir::Scalar call(ir::ScalarOp op, ir::Scalar a) { return apply_op(op, std::array{a}); }
ir::Scalar call(ir::ScalarOp op, ir::Scalar a, ir::Scalar b) { return apply_op(op, std::array{a, b}); }

Array run(const ir::ScalarProgram& program, std::vector<ConstView> in, const Shape& shape, int threads = 1,
          int level = 4) {
  ThreadPool pool(threads);
  Array out(program.result(), shape);
  make_cpu_device({.max_level = level})->elementwise(program, in, out.out(), pool);
  return out;
}

TEST(Elementwise, AddsPlainMemory) {
  const auto add = program_of({DType::F32, DType::F32}, [](Scalars x) { return x[0] + x[1]; });
  for (int64_t n : {1, 3, 1000, 1025, 100000}) {
    Array a(DType::F32, {n});
    Array b(DType::F32, {n});
    a.fill_random(1);
    b.fill_random(2);
    const Array sum = run(add, {a.in(), b.in()}, {n}, 2);
    for (int64_t i = 0; i < n; ++i) ASSERT_EQ(sum.data<float>()[i], a.data<float>()[i] + b.data<float>()[i]);
  }
}

TEST(Elementwise, ResultMayBeTheMemoryOfAnInput) {
  const auto program = program_of({DType::F64, DType::F64}, [](Scalars x) { return x[0] * x[1] + call(Exp, x[0]); });
  const int64_t n = 5000;
  Array a(DType::F64, {n});
  Array b(DType::F64, {n});
  a.fill_random(1);
  b.fill_random(2);
  const std::vector<double> want = run(program, {a.in(), b.in()}, {n}).reals();
  ThreadPool pool(2);
  make_cpu_device()->elementwise(program, std::array{a.in(), b.in()}, a.out(), pool);
  EXPECT_EQ(a.reals(), want);
}

// One value computed by hand for each instruction, dtype by dtype, integers with their corner cases.
template <class T>
std::vector<T> binary(ir::ScalarOp op, const std::vector<T>& a, const std::vector<T>& b) {
  const auto program = program_of({dtype_of<T>, dtype_of<T>}, [&](Scalars x) { return call(op, x[0], x[1]); });
  const auto n = static_cast<int64_t>(a.size());
  const Array x = Array::of(a, {n});
  const Array y = Array::of(b, {n});
  const Array z = run(program, {x.in(), y.in()}, {n});
  return {z.data<T>(), z.data<T>() + n};
}
constexpr int32_t kLow = std::numeric_limits<int32_t>::min();

TEST(Elementwise, IntegerDivisionRoundsDownAndIsTotal) {
  const std::vector<int32_t> a{7, -7, 7, -7, 5, kLow, kLow, 0};
  const std::vector<int32_t> b{2, 2, -2, -2, 0, -1, 2, 3};
  EXPECT_EQ(binary(Div, a, b), (std::vector<int32_t>{3, -4, -4, 3, 0, kLow, kLow / 2, 0}));
  EXPECT_EQ(binary(Rem, a, b), (std::vector<int32_t>{1, 1, -1, -1, 0, 0, 0, 0}));
  EXPECT_EQ(binary(Tdiv, a, b), (std::vector<int32_t>{3, -3, -3, 3, 0, kLow, kLow / 2, 0}));
  EXPECT_EQ(binary(Fmod, a, b), (std::vector<int32_t>{1, -1, 1, -1, 0, 0, 0, 0}));
}

TEST(Elementwise, IntegersWrap) {
  EXPECT_EQ(binary<int8_t>(Add, {127, -128}, {1, -1}), (std::vector<int8_t>{-128, 127}));
  EXPECT_EQ(binary<uint16_t>(Mul, {65535, 300}, {65535, 300}), (std::vector<uint16_t>{1, 24464}));
  EXPECT_EQ(binary<int64_t>(Mul, {INT64_MIN, 3}, {-1, -4}), (std::vector<int64_t>{INT64_MIN, -12}));
  EXPECT_EQ(binary<int32_t>(Pow, {3, 2, -1, 2, 0, 10}, {4, 31, -3, -1, -2, 0}),
            (std::vector<int32_t>{81, kLow, -1, 0, 0, 1}));
}

TEST(Elementwise, ShiftsByTheWidthOrMore) {
  EXPECT_EQ(binary<int32_t>(Shl, {1, 1, 1, -1}, {31, 32, -1, 4}), (std::vector<int32_t>{kLow, 0, 0, -16}));
  EXPECT_EQ(binary<int32_t>(Shr, {-8, -8, 8, -1}, {1, 40, 99, -1}), (std::vector<int32_t>{-4, -1, 0, -1}));
  EXPECT_EQ(binary<uint8_t>(Shr, {255, 255}, {7, 8}), (std::vector<uint8_t>{1, 0}));
}

TEST(Elementwise, FloatDivisionFamily) {
  const std::vector<double> a{7, -7, 7, -7, 5.5, -0.0, INFINITY};
  const std::vector<double> b{2, 2, -2, -2, 0.5, 3, 2};
  const std::vector<double> rem = binary(Rem, a, b);  // numpy.remainder
  EXPECT_EQ((std::vector<double>(rem.begin(), rem.end() - 1)), (std::vector<double>{
                                                                   1,
                                                                   1,
                                                                   -1,
                                                                   -1,
                                                                   0,
                                                                   0,
                                                               }));
  EXPECT_FALSE(std::signbit(rem[5]));
  EXPECT_TRUE(std::isnan(rem[6]));
  EXPECT_EQ(binary<double>(Tdiv, {7, -7}, {2, 2}), (std::vector<double>{3, -3}));
  EXPECT_EQ(binary<double>(Fmod, {-7}, {2}), (std::vector<double>{-1}));
}

TEST(Elementwise, MinAndMaxPropagateNan) {
  for (ir::ScalarOp op : {Min, Max}) {
    const std::vector<float> r = binary<float>(op, {NAN, 1, NAN, 2}, {1, NAN, NAN, 1});
    EXPECT_TRUE(std::isnan(r[0]) && std::isnan(r[1]) && std::isnan(r[2]));
    EXPECT_EQ(r[3], op == Min ? 1 : 2);
  }
}

TEST(Elementwise, BoolsHaveLogic) {
  const Array a = Array::of<uint8_t>({0, 0, 1, 1}, {4});
  const Array b = Array::of<uint8_t>({0, 1, 0, 1}, {4});
  const auto check = [&](ir::ScalarOp op, const std::vector<double>& want) {
    const auto program = program_of({DType::Bool, DType::Bool}, [&](Scalars x) { return call(op, x[0], x[1]); });
    ConstView x = a.in();
    ConstView y = b.in();
    x.dtype = y.dtype = DType::Bool;
    EXPECT_EQ(run(program, {x, y}, {4}).reals(), want) << info(op).name;
  };
  check(Add, {0, 1, 1, 1});
  check(Mul, {0, 0, 0, 1});
  check(Xor, {0, 1, 1, 0});
  check(Or, {0, 1, 1, 1});
  check(Lt, {0, 1, 0, 0});
  check(Eq, {1, 0, 0, 1});
}

// Every pair of dtypes against the reference conversion.
TEST(Elementwise, CastsAgreeWithTheReference) {
  for (const DTypeInfo& from : all_dtypes()) {
    for (const DTypeInfo& to : all_dtypes()) {
      Array x(from.dtype, {600});
      x.fill([&](int64_t i) {
        constexpr double kSpecial[] = {0,     -0.0, 1e-7, -1e-7, 0.5,   1.5,   2.5,    -2.5,     127,
                                       128,   -128, -129, 255,   256,   65504, 65519,  65520,    3e38,
                                       -3e38, 7,    8,    -8,    -9,    4.3e9, 9.3e18, -1e19,    1.9e19,
                                       448,   464,  465,  57344, 61440, 1e300, NAN,    INFINITY, -INFINITY};
        if (i < static_cast<int64_t>(std::size(kSpecial))) {
          return from.kind == DTypeKind::Float || std::isfinite(kSpecial[i]) ? kSpecial[i] : 1.0;
        }
        return std::sin(static_cast<double>(i)) * std::pow(2.0, static_cast<double>(i % 40) - 20);
      });
      const auto program = program_of({from.dtype}, [](Scalars s) { return s[0]; }, to.dtype);
      const Array y = run(program, {x.in()}, {600});
      Array want(to.dtype, {600});
      for (int64_t i = 0; i < 600; ++i) convert_element(x.in(), i, want.out(), i);
      const std::vector<double> a = y.reals();
      const std::vector<double> b = want.reals();
      for (size_t i = 0; i < a.size(); ++i) {
        ASSERT_TRUE(a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i])))
            << from.name << " -> " << to.name << " of " << x.reals()[i] << ": " << a[i] << ", want " << b[i];
      }
    }
  }
}

// The loops of every level, whole vectors and rests, against the conversions of tensors.
TEST(Elementwise, HalvesAreRoundedAlikeOnEveryLevel) {
  std::vector<float> numbers;
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += 9973)
    numbers.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  for (uint32_t i = 0; i < 0x7c00; ++i) {  // ties and their neighbours
    const float low = f16_to_f32(static_cast<uint16_t>(i)), high = f16_to_f32(static_cast<uint16_t>(i + 1));
    const float tie = i + 1 == 0x7c00 ? 65520.0F : (low + high) / 2;
    for (const float x : {tie, std::nextafterf(tie, 0.0F), std::nextafterf(tie, INFINITY), -tie}) numbers.push_back(x);
  }
  constexpr auto kHalf = static_cast<size_t>(DType::F16), kSingle = static_cast<size_t>(DType::F32);
  for (int level : {2, 3, 4}) {
    if (cpu::best_level() < level) continue;
    const cpu::LevelTable& table = cpu::level_table(level);
    std::vector<uint16_t> halves(numbers.size());
    std::vector<float> back(numbers.size());
    for (const size_t n : {numbers.size(), size_t{37}, size_t{1}, size_t{0}}) {
      table.cast[kSingle][kHalf](halves.data(), numbers.data(), nullptr, nullptr, static_cast<int64_t>(n));
      table.cast[kHalf][kSingle](back.data(), halves.data(), nullptr, nullptr, static_cast<int64_t>(n));
      for (size_t i = 0; i < n; ++i) {
        if (std::isnan(numbers[i])) {
          ASSERT_TRUE(std::isnan(f16_to_f32(halves[i])) && std::isnan(back[i])) << level << ' ' << i;
        } else {
          ASSERT_EQ(halves[i], f32_to_f16(numbers[i])) << level << ' ' << numbers[i];
          ASSERT_EQ(std::bit_cast<uint32_t>(back[i]), std::bit_cast<uint32_t>(f16_to_f32(halves[i]))) << level;
        }
      }
    }
  }
}

TEST(Elementwise, EveryNarrowFloatWidensAndReturns) {
  for (DType type : {DType::F16, DType::BF16}) {
    Array x(type, {65536});
    for (int i = 0; i < 65536; ++i) x.data<uint16_t>()[i] = static_cast<uint16_t>(i);
    const Array wide = run(program_of({type}, [](Scalars s) { return s[0]; }, DType::F32), {x.in()}, {65536});
    const Array back = run(program_of({DType::F32}, [](Scalars s) { return s[0]; }, type), {wide.in()}, {65536});
    for (int i = 0; i < 65536; ++i) {
      const auto bits = static_cast<uint16_t>(i);
      const float want = type == DType::F16 ? f16_to_f32(bits) : bf16_to_f32(bits);
      const float got = wide.data<float>()[i];
      ASSERT_TRUE(got == want || (std::isnan(got) && std::isnan(want))) << i;
      if (!std::isnan(want))
        ASSERT_EQ(back.data<uint16_t>()[i], bits);
      else
        ASSERT_TRUE(std::isnan(type == DType::F16 ? f16_to_f32(back.data<uint16_t>()[i])
                                                  : bf16_to_f32(back.data<uint16_t>()[i])));
    }
  }
}

struct Layout {
  const char* name;
  Shape shape;
  Shape strides[2];
  int64_t offset[2];
};

// out[i] = a[i] * 2 + b[i] over awkward layouts, against a loop.
TEST(Elementwise, AnyLayout) {
  const Layout layouts[] = {
      {"scalar", {}, {{}, {}}, {0, 3}},
      {"transposed", {37, 53}, {{53, 1}, {1, 37}}, {0, 0}},
      {"row broadcast", {300, 10}, {{10, 1}, {0, 1}}, {0, 0}},
      {"row broadcast, long", {7, 3000}, {{3000, 1}, {0, 1}}, {0, 0}},
      {"column broadcast", {300, 10}, {{10, 1}, {1, 0}}, {0, 0}},
      {"channel bias", {4, 5, 600}, {{3000, 600, 1}, {0, 1, 0}}, {0, 0}},
      {"channel bias, small", {4, 5, 6}, {{30, 6, 1}, {0, 1, 0}}, {0, 0}},
      {"one value", {1000, 40}, {{40, 1}, {0, 0}}, {0, 7}},
      {"flipped", {64, 33}, {{-33, -1}, {33, -1}}, {64 * 33 - 1, 32}},
      {"every second", {20, 500}, {{2000, 2}, {1000, 1}}, {1, 0}},
      {"both broadcast", {2000, 3}, {{0, 1}, {0, 0}}, {0, 0}},
      {"five axes", {2, 3, 4, 5, 6}, {{1, 2, 6, 24, 120}, {360, 120, 30, 6, 1}}, {0, 0}},
      {"empty", {0, 4}, {{4, 1}, {4, 1}}, {0, 0}},
  };
  for (DType type : {DType::F32, DType::F64, DType::I16, DType::F16, DType::U4}) {
    const DType computed = is_float(type) ? (type == DType::F64 ? type : DType::F32) : type;
    const auto program = program_of({type, type}, [](Scalars x) { return x[0] * 2 + x[1]; }, type);
    (void)computed;
    for (const Layout& layout : layouts) {
      Array a(type, layout.shape, layout.strides[0], layout.offset[0], 50000);
      Array b(type, layout.shape, layout.strides[1], layout.offset[1], 50000);
      for (Array* x : {&a, &b}) {
        for (int64_t i = 0; i < 50000; ++i)
          store_real(View{x->memory.data(), type, {50000}, {1}, 0}, i, static_cast<double>((i * 37 + 11) % 61));
      }
      const std::vector<double> x = a.reals();
      const std::vector<double> y = b.reals();
      for (int threads : {1, 3}) {
        const std::vector<double> z = run(program, {a.in(), b.in()}, layout.shape, threads).reals();
        ASSERT_EQ(z.size(), x.size());
        for (size_t i = 0; i < z.size(); ++i) {
          double want = x[i] * 2 + y[i];
          if (type == DType::U4) want = std::fmod(want, 16);
          ASSERT_EQ(z[i], want) << name(type) << ", " << layout.name << " at " << i;
        }
      }
    }
  }
}

TEST(Elementwise, StridedOutput) {
  const auto program = program_of({DType::F32}, [](Scalars x) { return x[0] + 1; });
  Array a(DType::F32, {30, 50});
  a.fill([](int64_t i) { return static_cast<double>(i); });
  Array transposed(DType::F32, {30, 50}, {1, 30}, 0, 1500);
  Array spread(DType::F32, {30, 50}, {200, 3}, 5, 6100);
  ThreadPool pool(2);
  const auto cpu = make_cpu_device();
  for (Array* out : {&transposed, &spread}) {
    cpu->elementwise(program, std::array{a.in()}, out->out(), pool);
    const std::vector<double> values = out->reals();
    for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], static_cast<double>(i) + 1);
  }
}

TEST(Elementwise, ConstantsAndUnusedInputs) {
  const auto program = program_of({DType::F32, DType::I64}, [](Scalars) { return ir::Scalar(2.5); }, DType::F16);
  Array a(DType::F32, {3000});
  Array b(DType::I64, {3000});
  for (double v : run(program, {a.in(), b.in()}, {3000}).reals()) ASSERT_EQ(v, 2.5);
}

// A program with more live values than registers fit into a block of the usual size.
TEST(Elementwise, ManyLiveValues) {
  const auto program = program_of({DType::F64}, [](Scalars x) {
    std::vector<ir::Scalar> values;
    for (int i = 0; i < 60; ++i) values.push_back(x[0] + i);
    ir::Scalar sum = values[0];
    for (int i = 59; i > 0; --i) sum = sum + values[static_cast<size_t>(i)];
    return sum;
  });
  for (const Shape& shape : {Shape{5000}, Shape{40, 100}}) {
    Array a(DType::F64, shape);
    a.fill([](int64_t i) { return static_cast<double>(i); });
    const Array out = run(program, {a.in()}, shape, 2);
    for (int64_t i = 0; i < numel(shape); ++i) ASSERT_EQ(out.data<double>()[i], 60.0 * static_cast<double>(i) + 1770);
  }
}

// The same bits at every CPU level, whole blocks and tails, for every function of f32.
TEST(Elementwise, EveryCpuLevelGivesTheSameBits) {
  const int64_t n = 20011;
  for (DType type : {DType::F32, DType::F64}) {
    Array a(type, {n});
    Array b(type, {n});
    a.fill_random(5, -20, 20);
    b.fill_random(6, -3, 3);
    for (int i = 0; i < ir::kScalarOpCount; ++i) {
      const auto op = static_cast<ir::ScalarOp>(i);
      const ir::ScalarOpInfo& row = info(op);
      if (row.arity < 1 || op == Select || op == Cast || op == Bitcast || (row.kinds & ir::kFloatKind) == 0) continue;
      const auto program = program_of({type, type}, [&](Scalars x) {
        return row.arity == 1   ? call(op, x[0])
               : row.arity == 2 ? call(op, x[0], x[1])
                                : apply_op(op, std::array{x[0], x[1], x[0]});
      });
      const Array base = run(program, {a.in(), b.in()}, {n}, 1, 2);
      for (int level : {3, 4}) {
        const Array other = run(program, {a.in(), b.in()}, {n}, 2, level);
        ASSERT_EQ(std::memcmp(base.memory.data(), other.memory.data(), base.memory.size() - 8), 0)
            << row.name << " of " << name(type) << " at level " << level;
      }
    }
  }
}

// Against the C library, where a second rounding would go wrong: sums that cancel, results between two numbers,
// denormal results, infinities. Level 2 has no instruction for it.
TEST(Elementwise, MultiplyAddRoundsOnce) {
  const float kTiny = std::ldexp(1.0F, -140), kHuge = std::numeric_limits<float>::max();
  const float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> a{1 + 0x1p-12F, 1 + 0x1p-12F, 0x1p-75F, 0x1.8p-75F, kHuge,    kHuge,     -kHuge, kInfinity, 0,
                       kNan,         kTiny,        1,        -1,         0x1p-70F, -0x1p-70F, 1,      1};
  std::vector<float> b{
      1 + 0x1p-12F, 1 - 0x1p-12F, 0x1p-75F, 0x1p-74F,       2,     kHuge,   kHuge, 0, kInfinity, 1, kTiny,
      0x1p-60F,     0x1p-60F,     0x1p-70F, 0x1.000002p-9F, -0.0F, 0x1p-24F};
  std::vector<float> c{0x1p-24F, 0x1p-24F, kTiny, -kTiny, -kHuge, -kInfinity, kInfinity, 1, 1,
                       1,        1,        1,     1,      kTiny,  1,          0,         1};
  ASSERT_TRUE(a.size() == b.size() && b.size() == c.size());
  // Halfway between two floats but for a last bit far below: the case that rounding twice gets wrong.
  data::Random random(3);
  for (int i = 0; i < 200000; ++i) {
    const auto real = [&](int low, int high) {
      const auto mantissa = static_cast<double>(random.below(1 << 24)) + (1 << 24);
      const int exponent = low + static_cast<int>(random.below(static_cast<uint64_t>(high - low)));
      return static_cast<float>(std::ldexp(random.below(2) == 0 ? mantissa : -mantissa, exponent - 24));
    };
    a.push_back(real(-40, 40));
    b.push_back(real(-40, 40));
    const float near = -a.back() * b.back();
    c.push_back(i % 4 == 0   ? near
                : i % 4 == 1 ? std::ldexp(near, 24)
                : i % 4 == 2 ? std::ldexp(near, -25)
                             : real(-90, 90));
  }
  const auto n = static_cast<int64_t>(a.size());
  const Array x = Array::of(a, {n}), y = Array::of(b, {n}), z = Array::of(c, {n});
  const auto program = program_of({DType::F32, DType::F32, DType::F32},
                                  [](Scalars s) { return apply_op(Fma, std::array{s[0], s[1], s[2]}); });
  for (int level : {2, 3, 4}) {
    const Array got = run(program, {x.in(), y.in(), z.in()}, {n}, 1, level);
    for (size_t i = 0; i < a.size(); ++i) {
      const float want = std::fma(a[i], b[i], c[i]), have = got.data<float>()[i];
      if (std::isnan(want)) {
        ASSERT_TRUE(std::isnan(have)) << i;
      } else {
        ASSERT_EQ(std::bit_cast<uint32_t>(want), std::bit_cast<uint32_t>(have))
            << i << ": " << a[i] << " * " << b[i] << " + " << c[i] << " at level " << level;
      }
    }
  }
}

// f32 has a formula of its own; f64 iterates until erf gives the argument back.
TEST(Elementwise, ErfinvInF32IsThatOfF64Rounded) {
  const auto in = [](DType dtype, const std::vector<float>& x) {
    Array a(dtype, {static_cast<int64_t>(x.size())});
    a.fill([&](int64_t i) { return x[static_cast<size_t>(i)]; });
    return run(program_of({dtype}, [&](Scalars s) { return call(Erfinv, s[0]); }), {a.in()},
               {static_cast<int64_t>(x.size())})
        .reals();
  };
  std::vector<float> x{0.0F, -0.0F, 1e-40F, 0.85F, std::nextafter(0.85F, 1.0F), -0.85F, 1 - 0x1p-24F, -1 + 0x1p-24F};
  for (uint32_t bits = 0; bits < std::bit_cast<uint32_t>(1.0F); bits += 99991)
    x.push_back((bits % 2 == 0 ? 1.0F : -1.0F) * std::bit_cast<float>(bits));
  const auto have = in(DType::F32, x), want = in(DType::F64, x);
  for (size_t i = 0; i < x.size(); ++i) {
    const auto rounded = static_cast<float>(want[i]), got = static_cast<float>(have[i]);
    ASSERT_TRUE(got == rounded || got == std::nextafter(rounded, got)) << x[i] << ": " << got << ", " << rounded;
    ASSERT_EQ(std::signbit(got), std::signbit(x[i])) << x[i];
  }
  const auto ends = in(DType::F32, {1.0F, -1.0F, 1.5F, -2.0F, NAN, INFINITY});
  EXPECT_EQ(ends[0], INFINITY);
  EXPECT_EQ(ends[1], -INFINITY);
  for (size_t i = 2; i < ends.size(); ++i) EXPECT_TRUE(std::isnan(ends[i])) << i;
}

TEST(Elementwise, SpecialFunctions) {
  const auto value = [](ir::ScalarOp op, double x) {
    Array a(DType::F64, {1});
    a.fill([&](int64_t) { return x; });
    return run(program_of({DType::F64}, [&](Scalars s) { return call(op, s[0]); }), {a.in()}, {1}).reals()[0];
  };
  // SciPy 1.11: special.erfinv, digamma, gammaln
  EXPECT_NEAR(value(Erfinv, 0.5), 0.4769362762044699, 1e-15);
  EXPECT_NEAR(value(Erfinv, -0.999), -2.326753765513525, 1e-14);
  EXPECT_NEAR(std::erfc(value(Erfinv, 1 - 1e-12)) / (1 - (1 - 1e-12)), 1, 1e-13);
  EXPECT_EQ(value(Erfinv, 1), INFINITY);
  EXPECT_TRUE(std::isnan(value(Erfinv, 1.5)));
  EXPECT_NEAR(value(Digamma, 1), -0.5772156649015329, 1e-15);
  EXPECT_NEAR(value(Digamma, 0.1), -10.423754940411076, 1e-13);
  EXPECT_NEAR(value(Digamma, -1.5), 0.7031566406452432, 1e-13);
  EXPECT_NEAR(value(Digamma, 100), 4.600161852738087, 1e-14);
  EXPECT_NEAR(value(Lgamma, 10.5), 13.940625219403763, 1e-13);
}

TEST(Elementwise, LevelComesFromTheEnvironment) {
  setenv("TENON_CPU_LEVEL", "v9", 1);
  try {
    (void)make_cpu_device();
    FAIL() << "no error";
  } catch (const ValueError& e) {
    EXPECT_STREQ(e.what(),
                 "TENON_CPU_LEVEL: unknown CPU level in the environment; expected v2, v3 or v4, got v9\n"
                 "  try: unset TENON_CPU_LEVEL");
  }
  setenv("TENON_CPU_LEVEL", "v2", 1);
  EXPECT_EQ(make_cpu_device()->name(), "cpu");
  unsetenv("TENON_CPU_LEVEL");
}

}  // namespace
}  // namespace tenon::test
