#include "tenon/device/cpu/product_bf16.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "tenon/device/cpu/amx.h"
#include "tenon/device/cpu/bf16_attention.h"
#include "tenon/tensor/low_precision.h"
#include "tests/device/support.h"

namespace tenon::test {
namespace {

using cpu::Bf16Product;

class ProductBf16 : public testing::Test {
 protected:
  void SetUp() override {
    if (!cpu::bf16_blocks::available())
      GTEST_SKIP() << "this CPU has neither AMX nor AVX-512 with bf16, or TENON_CPU_LEVEL names a level";
  }
};

struct Bf16Sizes {
  int64_t m, n, k;
};
// Around blocks of 32: nothing lacks, one lacks, one more; long sums, some in pieces, several strips and blocks of
// rows.
std::vector<Bf16Sizes> bf16_sizes() {
  return {{1, 1, 1},    {32, 32, 32}, {31, 33, 31},    {33, 31, 33},    {1, 100, 64}, {100, 1, 7}, {5, 17, 90},
          {64, 800, 1}, {17, 5, 999}, {300, 70, 2000}, {200, 33, 8999}, {49, 40, 96}, {784, 9, 64}};
}

// The exact sum (products of bf16 are exact in f64), and what f32 sums and one rounding may be away from it.
void expect_near_exact(const Bf16Product& p, const uint16_t* c) {
  for (int64_t i = 0; i < p.m; ++i) {
    for (int64_t j = 0; j < p.n; ++j) {
      double sum = p.bias == nullptr ? 0 : p.bias[j], magnitude = std::abs(sum);
      for (int64_t k = 0; k < p.k; ++k) {
        const double product = static_cast<double>(bf16_to_f32(p.a[i * p.a_row + k * p.a_k])) *
                               bf16_to_f32(p.b[k * p.b_k + j * p.b_column]);
        sum += product;
        magnitude += std::abs(product);
      }
      const double sums = std::ldexp(1.0, -24) * static_cast<double>(p.k + 2) * magnitude;
      ASSERT_NEAR(bf16_to_f32(c[i * p.c_row + j]), sum, sums + (std::abs(sum) + sums) * std::ldexp(1.0, -8))
          << p.m << " x " << p.n << " x " << p.k << " at " << i << ", " << j;
    }
  }
}

TEST_F(ProductBf16, IsTheSumRoundedOnceWithTheSameBitsForEveryLayoutAndThreadCount) {
  for (const auto& [m, n, k] : bf16_sizes()) {
    const auto a = draw_bf16(m * k, 1), b = draw_bf16(k * n, 2);
    const std::vector<float> bias(static_cast<size_t>(n), 0.375F);
    std::vector<uint16_t> a_turned(a.size()), b_turned(b.size()), a_apart(a.size() * 6), b_apart(b.size() * 6);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t x = 0; x < k; ++x) a_turned[x * m + i] = a_apart[3 * (i * k + x) * 2] = a[i * k + x];
    }
    for (int64_t x = 0; x < k; ++x) {
      for (int64_t j = 0; j < n; ++j) b_turned[j * k + x] = b_apart[3 * (x * n + j) * 2] = b[x * n + j];
    }
    for (const float* add : {static_cast<const float*>(nullptr), bias.data()}) {
      std::vector<uint16_t> first;
      for (int layout = 0; layout < 9; ++layout) {
        Bf16Product p{.m = m, .n = n, .k = k, .bias = add};
        const int left = layout % 3, right = layout / 3;
        p.a = left == 0 ? a.data() : left == 1 ? a_turned.data() : a_apart.data();
        p.a_row = left == 0 ? k : left == 1 ? 1 : 6 * k;
        p.a_k = left == 0 ? 1 : left == 1 ? m : 6;
        p.b = right == 0 ? b.data() : right == 1 ? b_turned.data() : b_apart.data();
        p.b_k = right == 0 ? n : right == 1 ? 1 : 6 * n;
        p.b_column = right == 0 ? 1 : right == 1 ? k : 6;
        for (const int threads : {0, 1, 3}) {  // 0: on this thread, with a right side that was packed before
          std::vector<uint16_t> c(static_cast<size_t>(m * (n + 2)), 0x7fff);
          p.c = c.data();
          p.c_row = n + 2;
          ThreadPool pool(std::max(1, threads));
          if (threads == 0) {
            const Ref<Buffer> packed = cpu::pack_right_bf16(p.b, p.b_k, p.b_column, k, n, pool);
            Bf16Product q = p;
            q.packed = reinterpret_cast<const uint16_t*>(packed->data());
            product(q);
          } else {
            product(p, pool);
          }
          if (first.empty()) {
            first = c;
            expect_near_exact(p, c.data());
            for (int64_t i = 0; i < m; ++i) ASSERT_EQ(c[i * p.c_row + n], 0x7fff) << "written beside the result";
          }
          ASSERT_EQ(first, c) << m << " x " << n << " x " << k << ", layout " << layout << ", threads " << threads;
        }
      }
    }
  }
}

TEST_F(ProductBf16, OneRowGivesWhatAllRowsGive) {
  const int64_t m = 70, n = 45, k = 77;
  const auto a = draw_bf16(m * k, 3), b = draw_bf16(k * n, 4);
  std::vector<uint16_t> all(m * n), one(n);
  Bf16Product p{.m = m, .n = n, .k = k, .a = a.data(), .a_row = k, .a_k = 1, .b = b.data(), .b_k = n, .b_column = 1};
  p.c_row = n;
  p.c = all.data();
  product(p);
  p.m = 1;
  p.c = one.data();
  for (int64_t i = 0; i < m; ++i) {
    p.a = a.data() + i * k;
    product(p);
    ASSERT_TRUE(std::equal(one.begin(), one.end(), all.begin() + i * n)) << "row " << i;
  }
}

TEST_F(ProductBf16, InfinityAndNanStayInTheirRowsAndColumns) {
  const int64_t m = 3, n = 40, k = 50;
  auto a = draw_bf16(m * k, 5);
  const auto b = draw_bf16(k * n, 6);
  a[k + 4] = f32_to_bf16(std::numeric_limits<float>::quiet_NaN());
  a[2 * k + 9] = f32_to_bf16(std::numeric_limits<float>::infinity());
  std::vector<uint16_t> c(m * n);
  Bf16Product p{.m = m, .n = n, .k = k, .a = a.data(), .a_row = k, .a_k = 1, .b = b.data(), .b_k = n, .b_column = 1};
  p.c = c.data();
  p.c_row = n;
  product(p);
  for (int64_t j = 0; j < n; ++j) {
    EXPECT_TRUE(std::isfinite(bf16_to_f32(c[j])));
    EXPECT_TRUE(std::isnan(bf16_to_f32(c[n + j])));
    EXPECT_TRUE(std::isinf(bf16_to_f32(c[2 * n + j])));
  }
}

// Each step gives the bits of the device's own loop for its op, after the rounding that stands before all steps.
TEST_F(ProductBf16, StepsInRegistersAreTheLoopsOfTheirOps) {
  constexpr int64_t kRows = 11, kColumns = 29, kSide = cpu::bf16_blocks::kSide;
  const float special[] = {0.0F, -0.0F, NAN, INFINITY, -INFINITY, 3e-39F, 3e38F, 6.0F};
  alignas(64) std::array<float, cpu::bf16_blocks::kBlockSize> sums{};
  std::vector<uint16_t> narrow(sums.size());
  std::vector<float> wide(sums.size());
  for (size_t i = 0; i < sums.size(); ++i) {
    sums[i] = i % 3 == 0 ? special[i / 3 % 8] : static_cast<float>(i) * 0.37F - 50;
    narrow[i] = f32_to_bf16(i % 4 == 0 ? special[i / 24 % 8] : 20 - static_cast<float>(i) * 0.11F);
    wide[i] = bf16_to_f32(narrow[i]);
  }
  const cpu::LevelTable& table = cpu::level_table(cpu::best_level());
  const auto run = [&](const std::vector<cpu::bf16_blocks::Step>& steps) {
    std::vector<float> y(kRows * kSide, 99.0F);
    cpu::bf16_blocks::finish(sums.data(), {nullptr, steps.data(), static_cast<int>(steps.size()), false}, kRows,
                             kColumns, y.data(), kSide);
    for (int64_t r = 0; r < kRows; ++r)
      for (int64_t c = kColumns; c < kSide; ++c) EXPECT_EQ(y[r * kSide + c], 99.0F) << "written beside the block";
    return y;
  };
  std::vector<uint16_t> rounded(kRows * kSide);
  cpu::bf16_blocks::finish(sums.data(), {nullptr, nullptr, 0, true}, kRows, kColumns, rounded.data(), kSide);
  using enum cpu::TileOp;
  using ir::ScalarOp;
  for (const auto& [step, op] :
       {std::pair{Add, ScalarOp::Add}, std::pair{Subtract, ScalarOp::Sub}, std::pair{SubtractFrom, ScalarOp::Sub},
        std::pair{Multiply, ScalarOp::Mul}, std::pair{Divide, ScalarOp::Div}, std::pair{DivideInto, ScalarOp::Div},
        std::pair{Larger, ScalarOp::Max}, std::pair{Smaller, ScalarOp::Min}}) {
    const bool turned = step == SubtractFrom || step == DivideInto;
    const cpu::LoopFn loop = table.loop[static_cast<size_t>(op)][static_cast<size_t>(DType::F32)];
    for (const bool short_ones : {false, true}) {
      const void* data = short_ones ? static_cast<const void*>(narrow.data()) : wide.data();
      for (const int reach : {0, 1, 2}) {  // of every element, of the column, one number
        const auto got = run({{step, reach == 2, short_ones, data, reach == 0 ? kSide : 0}});
        for (int64_t i = 0; i < kRows * kSide; ++i) {
          if (i % kSide >= kColumns) continue;
          const float x = bf16_to_f32(rounded[i]), o = wide[reach == 0 ? i : reach == 1 ? i % kSide : 0];
          float want = 0;
          loop(&want, turned ? &o : &x, turned ? &x : &o, nullptr, 1);
          if (std::isnan(want))
            ASSERT_TRUE(std::isnan(got[i])) << x << ' ' << o;
          else
            ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(want)) << x << ' ' << o;
        }
      }
    }
  }
  // A result of bf16 is rounded by the last step.
  std::vector<uint16_t> y(kRows * kSide);
  const std::array steps{cpu::bf16_blocks::Step{Multiply, true, false, &wide[9], 0},
                         cpu::bf16_blocks::Step{Short, true, false, nullptr, 0}};
  cpu::bf16_blocks::finish(sums.data(), {nullptr, steps.data(), 2, true}, kRows, kColumns, y.data(), kSide);
  for (int64_t i = 0; i < kRows * kSide; ++i) {
    if (i % kSide >= kColumns) continue;
    const float want = bf16_to_f32(rounded[i]) * wide[9];
    if (std::isnan(want))
      ASSERT_TRUE(std::isnan(bf16_to_f32(y[i])));
    else
      ASSERT_EQ(y[i], f32_to_bf16(want)) << i;
  }
}

// The instruction that rounds takes subnormal numbers for zero, and a bound of zero may be done on what is stored:
// zeros, subnormal numbers, infinities and NaNs of either sign, among other numbers and in columns that are not there.
TEST_F(ProductBf16, RoundingBetweenStepsAndAtTheEndKnowsAllNumbers) {
  using enum cpu::TileOp;
  constexpr int64_t kSide = cpu::bf16_blocks::kSide, kRows = 13, kColumns = 27;
  constexpr float kInf = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> special{0.0F,     -0.0F,    1e-39F, -1e-39F, 9.1e-41F, -1e-44F,
                                   kInf,     -kInf,    -3e38F, 3.4e38F, kNan,     std::copysign(kNan, -1.0F),
                                   1.2e-38F, -1.2e-38F};
  alignas(64) std::array<float, cpu::bf16_blocks::kBlockSize> sums{};
  const float one = 1;
  const cpu::bf16_blocks::Step keep{Multiply, true, false, &one, 0}, rounds{Short, true, false, nullptr, 0},
      above_zero{AboveZero, true, false, nullptr, 0};
  const std::vector<std::vector<cpu::bf16_blocks::Step>> chains{
      {rounds}, {rounds, above_zero}, {rounds, keep, rounds}, {keep, rounds, above_zero}, {above_zero, rounds}};
  for (size_t which = 0; which <= special.size(); ++which) {
    for (int64_t i = 0; i < kRows * kSide; ++i) {
      const bool there = i % kSide < kColumns;
      sums[static_cast<size_t>(i)] = std::ldexp(static_cast<float>(i % 89 - 44) + 0.5F, static_cast<int>(i % 7));
      // One of them in a row, or all in all rows; nothing that matters where no column is.
      if (which < special.size() ? i == 5 * kSide + 3 : i % 3 == 0)
        sums[static_cast<size_t>(i)] =
            special[which < special.size() ? which : static_cast<size_t>(i) % special.size()];
      if (!there) sums[static_cast<size_t>(i)] = 0;
    }
    for (const auto& chain : chains) {
      const bool above = std::ranges::any_of(chain, [](const auto& s) { return s.op == AboveZero; });
      std::vector<uint16_t> y(kRows * kSide, 0xabcd);
      cpu::bf16_blocks::finish(sums.data(), {nullptr, chain.data(), static_cast<int>(chain.size()), true, false}, kRows,
                               kColumns, y.data(), kSide);
      for (int64_t i = 0; i < kRows * kSide; ++i) {
        const float x = sums[static_cast<size_t>(i)];
        uint16_t want = f32_to_bf16(above && !std::isnan(x) && !(x > 0) ? 0.0F : x);
        if (i % kSide >= kColumns) want = 0xabcd;
        ASSERT_EQ(y[static_cast<size_t>(i)], want) << x << " in " << which << " by " << chain.size();
      }
    }
  }
}

// x * factor (of the column) + other, with the product rounded to bf16 before and the end rounded too, or in f32.
TEST_F(ProductBf16, WhatFollowsIsTheProgramOfEachRoundedElement) {
  const int64_t m = 75, n = 500, k = 1000;  // large enough for two threads, which take columns
  const auto a = draw_bf16(m * k, 7), b = draw_bf16(k * n, 8), other = draw_bf16(m * n, 9);
  const std::vector<float> factor(static_cast<size_t>(n), 1.25F);
  Bf16Product p{.m = m, .n = n, .k = k, .a = a.data(), .a_row = k, .a_k = 1, .b = b.data(), .b_k = n, .b_column = 1};
  std::vector<uint16_t> c(m * n);
  p.c = c.data();
  p.c_row = n;
  product(p);
  for (const bool wide : {false, true}) {
    ir::ScalarBuilder builder;
    const ir::Scalar x = builder.input(DType::BF16), f = builder.input(DType::F32), o = builder.input(DType::BF16);
    const ir::Scalar y = x * f + o;
    const DType dtype = wide ? DType::F32 : DType::BF16;
    const ir::ScalarProgram text = builder.finish(y, dtype);
    ASSERT_TRUE(cpu::TileProgram::accepts(text)) << to_string(text);
    const cpu::Bf16After program(text);
    const int64_t size = info(dtype).bits / 8;
    std::vector<std::byte> out(static_cast<size_t>(m * n * size));
    const std::vector<cpu::Bf16Follow::Operand> operands{{reinterpret_cast<const std::byte*>(factor.data()), 0, 1},
                                                         {reinterpret_cast<const std::byte*>(other.data()), n, 1}};
    const cpu::Bf16Follow follow{program, operands, out.data(), n};
    ThreadPool pool(2);
    product(p, pool, &follow);
    for (int64_t i = 0; i < m * n; ++i) {
      const float want = bf16_to_f32(c[i]) * 1.25F + bf16_to_f32(other[i]);
      if (wide)
        ASSERT_EQ(reinterpret_cast<const float*>(out.data())[i], want) << i;
      else
        ASSERT_EQ(reinterpret_cast<const uint16_t*>(out.data())[i], f32_to_bf16(want)) << i;
    }
  }
}

// The blocks of each instruction that the CPU has, by themselves: where there are several, the others use one of them.
class Bf16Blocks : public ProductBf16 {
 protected:
  static constexpr int64_t kSide = cpu::bf16_blocks::kSide, kFew = cpu::bf16_blocks::kFew,
                           kDepth = cpu::bf16_blocks::kDepth, kSteps = 5, kLong = kSteps * kDepth;

  // The right side of kLong rows.
  struct Packed {
    Packed(const std::vector<uint16_t>& b, int64_t columns)
        : memory(cpu::pack_right_bf16(b.data(), columns, 1, kLong, columns, pool)) {}
    [[nodiscard]] const uint16_t* data() const { return reinterpret_cast<const uint16_t*>(memory->data()); }
    ThreadPool pool{1};
    Ref<Buffer> memory;
  };
  template <class F>
  static void for_each_instruction(const F& f) {
    f(cpu::bf16_blocks::pair_products());
    if (cpu::amx::available()) f(cpu::amx::bf16_products());
  }
  // Sums of products of whole numbers, which every order of additions gives: row i of a, from `a_at`, and column j of
  // b.
  static float sum_of(const std::vector<uint16_t>& a, int64_t a_at, const std::vector<uint16_t>& b, int64_t columns,
                      int64_t j) {
    float sum = 0;
    for (int64_t k = 0; k < kLong; ++k)
      sum += bf16_to_f32(a[static_cast<size_t>(a_at + k)]) * bf16_to_f32(b[static_cast<size_t>(k * columns + j)]);
    return sum;
  }
  static std::vector<uint16_t> whole_numbers(int64_t n, int seed) {
    std::vector<uint16_t> v(static_cast<size_t>(n));
    for (size_t i = 0; i < v.size(); ++i)
      v[i] = f32_to_bf16(static_cast<float>((i * 37 + static_cast<size_t>(seed)) % 31) - 15);
    return v;
  }
};

TEST_F(Bf16Blocks, AreTheSumsOfRowsWhereverTheyLie) {
  const auto a = whole_numbers(kSide * 2 * kLong, 1), b = whole_numbers(kLong * kSide, 2);
  const Packed right(b, kSide);
  std::vector<int64_t> steps, places;
  for (int64_t s = 0; s < kSteps; ++s) steps.push_back(s * kDepth);
  for (int64_t r = 0; r < kSide; ++r) places.push_back((r * 7 % kSide * 2 + 1) * kLong);
  for_each_instruction([&](const cpu::bf16_blocks::Products& products) {
    for (const bool table : {false, true}) {
      for (const bool more : {false, true}) {
        for (const int64_t rows : {kSide, int64_t{13}}) {
          for (const bool anywhere : {false, true}) {
            if (anywhere && (!table || !products.rows_anywhere)) continue;
            cpu::bf16_blocks::Left left{.at = a.data(), .row = 2 * kLong};
            left.steps = table ? steps.data() : nullptr;
            left.step = kDepth;
            left.rows = rows;
            left.places = anywhere ? places.data() : nullptr;
            std::vector<float> sums(cpu::bf16_blocks::kBlockSize, 100.0F);
            if (products.open != nullptr) products.open();
            products.block(left, {right.data(), kSteps}, sums.data(), kSide, more);
            if (products.close != nullptr) products.close();
            for (int64_t r = 0; r < rows; ++r) {
              const int64_t at = anywhere ? places[static_cast<size_t>(r)] : 2 * r * kLong;
              for (int64_t c = 0; c < kSide; ++c)
                ASSERT_EQ(sums[static_cast<size_t>(r * kSide + c)], sum_of(a, at, b, kSide, c) + (more ? 100 : 0))
                    << r << ", " << c << table << more << anywhere;
            }
          }
        }
      }
    }
  });
}

// What is finished in registers is what is finished from memory.
TEST_F(Bf16Blocks, AreFinishedInTheirRegisters) {
  const auto a = whole_numbers(kSide * kLong, 1), b = whole_numbers(kLong * kSide, 2);
  const auto other = draw_bf16(kSide * kSide, 3);
  const Packed right(b, kSide);
  std::vector<float> bias(kSide), factor(kSide);
  for (int64_t c = 0; c < kSide; ++c) {
    bias[static_cast<size_t>(c)] = static_cast<float>(c) / 3;
    factor[static_cast<size_t>(c)] = 1.0F / static_cast<float>(c + 1);
  }
  using enum cpu::TileOp;
  const std::array steps{cpu::bf16_blocks::Step{Multiply, false, false, factor.data(), 0},
                         cpu::bf16_blocks::Step{Short, true, false, nullptr, 0},
                         cpu::bf16_blocks::Step{Add, false, true, other.data(), kSide},
                         cpu::bf16_blocks::Step{Short, true, false, nullptr, 0},
                         cpu::bf16_blocks::Step{AboveZero, true, false, nullptr, 0}};
  for_each_instruction([&](const cpu::bf16_blocks::Products& products) {
    if (products.finished == nullptr) return;
    for (const int64_t rows : {kSide, int64_t{15}}) {
      for (const int64_t columns : {kSide, int64_t{21}}) {
        for (const int count : {0, 1, 2, 3, 5}) {
          cpu::bf16_blocks::Left left{.at = a.data(), .row = kLong, .step = kDepth};
          left.rows = rows;
          const cpu::bf16_blocks::Right panel{right.data(), kSteps, right.data()};
          const cpu::bf16_blocks::Finish finish{bias.data(), steps.data(), count, count != 1};
          alignas(64) std::array<float, cpu::bf16_blocks::kBlockSize> sums{};
          products.block(left, panel, sums.data(), kSide, false);
          std::vector<float> want(kSide * kSide), got(kSide * kSide);
          cpu::bf16_blocks::finish(sums.data(), finish, rows, columns, want.data(), kSide);
          products.finished(left, panel, finish, columns, got.data(), kSide);
          ASSERT_EQ(std::memcmp(got.data(), want.data(), want.size() * sizeof(float)), 0)
              << rows << " x " << columns << ", " << count << " steps";
        }
      }
    }
  });
}

// Steps of which only some pairs are not zeros.
TEST_F(Bf16Blocks, MayLeaveOutPairsOfZeros) {
  auto a = whole_numbers(kSide * kLong, 1), b = whole_numbers(kLong * kSide, 2);
  for (int64_t k = 0; k < kLong; ++k) {
    if (k % kDepth < 22) continue;
    for (int64_t r = 0; r < kSide; ++r) a[static_cast<size_t>(r * kLong + k)] = 0;
    for (int64_t c = 0; c < kSide; ++c) b[static_cast<size_t>(k * kSide + c)] = 0;
  }
  const Packed right(b, kSide);
  for_each_instruction([&](const cpu::bf16_blocks::Products& products) {
    cpu::bf16_blocks::Left left{.at = a.data(), .row = kLong, .step = kDepth};
    left.pairs = 11;
    std::vector<float> sums(cpu::bf16_blocks::kBlockSize);
    if (products.open != nullptr) products.open();
    products.block(left, {right.data(), kSteps}, sums.data(), kSide, false);
    if (products.close != nullptr) products.close();
    for (int64_t r = 0; r < kSide; ++r) {
      for (int64_t c = 0; c < kSide; ++c)
        ASSERT_EQ(sums[static_cast<size_t>(r * kSide + c)], sum_of(a, r * kLong, b, kSide, c)) << r << ", " << c;
    }
  });
}

// What a step leaves out is not read: here it is NaN.
TEST_F(Bf16Blocks, MayLeaveOutTheFirstOrTheLastRowOfAGroup) {
  using cpu::bf16_blocks::Omit;
  constexpr std::array kOmits{Omit::First, Omit::None, Omit::Last};
  for (const int64_t rows : {kSide, int64_t{28}, int64_t{21}, int64_t{8}, int64_t{2}}) {
    auto a = whole_numbers(kSide * kLong, 1);
    const auto b = whole_numbers(kLong * kSide, 2);
    const Packed right(b, kSide);
    std::vector<int64_t> steps, places;
    std::vector<Omit> omits;
    for (int64_t s = 0; s < kSteps; ++s) {
      steps.push_back(s * kDepth);
      omits.push_back(kOmits[static_cast<size_t>(s) % kOmits.size()]);
    }
    for (int64_t r = 0; r < kSide; ++r) places.push_back(r * kLong);
    const int64_t groups = cpu::bf16_blocks::groups(rows);
    const std::vector<cpu::bf16_blocks::StepRange> ranges(static_cast<size_t>(groups), {0, kSteps, omits.data()});
    auto without = a;
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t first = cpu::bf16_blocks::group_begin(g, rows),
                    last = cpu::bf16_blocks::group_begin(g + 1, rows) - 1;
      for (int64_t s = 0; s < kSteps; ++s) {
        const Omit omit = omits[static_cast<size_t>(s)];
        if (omit == Omit::None) continue;
        const auto at = static_cast<size_t>((omit == Omit::First ? first : last) * kLong + s * kDepth);
        std::fill_n(a.begin() + static_cast<std::ptrdiff_t>(at), kDepth, uint16_t{0x7fc0});
        std::fill_n(without.begin() + static_cast<std::ptrdiff_t>(at), kDepth, uint16_t{0});
      }
    }
    for_each_instruction([&](const cpu::bf16_blocks::Products& products) {
      if (!products.rows_anywhere) return;
      cpu::bf16_blocks::Left left{.at = a.data(), .row = 0, .steps = steps.data()};
      left.rows = rows;
      left.places = places.data();
      left.ranges = ranges.data();
      std::vector<float> sums(cpu::bf16_blocks::kBlockSize), finished(cpu::bf16_blocks::kBlockSize);
      products.block(left, {right.data(), kSteps}, sums.data(), kSide, false);
      cpu::bf16_blocks::Finish as_they_are{};
      as_they_are.narrow = as_they_are.rounds_first = false;
      const cpu::bf16_blocks::Step nothing{cpu::TileOp::Negate, true, false, nullptr, 0};
      as_they_are.steps = &nothing;
      as_they_are.step_count = 1;
      products.finished(left, {right.data(), kSteps}, as_they_are, kSide, finished.data(), kSide);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < kSide; ++c) {
          const float want = sum_of(without, r * kLong, b, kSide, c);
          ASSERT_EQ(sums[static_cast<size_t>(r * kSide + c)], want) << rows << " rows: " << r << ", " << c;
          ASSERT_EQ(finished[static_cast<size_t>(r * kSide + c)], -want) << rows << " rows: " << r << ", " << c;
        }
      }
    });
  }
}

TEST_F(Bf16Blocks, OfFewQueriesAreTheirScoresAndSums) {
  constexpr int64_t kKeys = 6 * kFew, kBlocks = 3;
  const auto keys = whole_numbers(kKeys * kLong, 1), queries = whole_numbers(kLong * kSide, 2);
  const auto weights = whole_numbers(kFew * kLong, 3), values = whole_numbers(kLong * kBlocks * kSide, 4);
  const Packed packed(queries, kSide), blocks(values, kBlocks * kSide);
  std::vector<uint16_t> tiles;
  for (int64_t s = 0; s < kSteps; ++s) {
    for (int64_t q = 0; q < kFew; ++q) {
      const auto* row = weights.data() + q * kLong + s * kDepth;
      tiles.insert(tiles.end(), row, row + kDepth);
    }
  }
  for_each_instruction([&](const cpu::bf16_blocks::Products& products) {
    std::vector<float> scores(kKeys * kFew), out(kFew * kBlocks * kSide, 7.0F);
    if (products.open != nullptr) products.open();
    products.few_scores(keys.data(), kLong, kKeys, packed.data(), kSteps, scores.data());
    products.few_sums(tiles.data(), kSteps, blocks.data(), kBlocks, out.data(), true);
    if (products.close != nullptr) products.close();
    for (int64_t r = 0; r < kKeys; ++r) {
      for (int64_t q = 0; q < kFew; ++q)
        ASSERT_EQ(scores[static_cast<size_t>(r * kFew + q)], sum_of(keys, r * kLong, queries, kSide, q)) << r << q;
    }
    for (int64_t q = 0; q < kFew; ++q) {
      for (int64_t c = 0; c < kBlocks * kSide; ++c)
        ASSERT_EQ(out[static_cast<size_t>(q * kBlocks * kSide + c)],
                  7 + sum_of(weights, q * kLong, values, kBlocks * kSide, c))
            << q << c;
    }
  });
}

}  // namespace
}  // namespace tenon::test
