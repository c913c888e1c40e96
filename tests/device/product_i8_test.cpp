#include "tenon/device/cpu/product_i8.h"

#include <gtest/gtest.h>

#include <array>

#include "tests/device/support.h"

namespace tenon::test {
namespace {

using cpu::I8Product;

int64_t value_of(uint8_t byte, bool is_signed) { return is_signed ? static_cast<int8_t>(byte) : byte; }

std::vector<int32_t> naive(const I8Product& p) {
  std::vector<int32_t> c;
  for (int64_t i = 0; i < p.m; ++i) {
    for (int64_t j = 0; j < p.n; ++j) {
      int64_t sum = 0;
      for (int64_t k = 0; k < p.k; ++k)
        sum +=
            value_of(p.a[i * p.a_row + k * p.a_k], p.a_signed) * value_of(p.b[k * p.b_k + j * p.b_column], p.b_signed);
      c.push_back(static_cast<int32_t>(static_cast<uint32_t>(sum)));
    }
  }
  return c;
}

struct I8Sizes {
  int64_t m, n, k;
};

// All loops that this CPU has, for all signs, layouts and thread counts: the sums of a plain loop.
TEST(ProductI8, IsTheExactSumInEveryLoop) {
  // Around blocks of 6, 12 and 32 rows, of 8, 16 and 32 columns, and steps of 2, 4 and 64; several blocks of rows, and
  // enough work for parts.
  const std::array<I8Sizes, 10> sizes{{{1, 1, 1},
                                       {6, 8, 4},
                                       {13, 33, 65},
                                       {32, 32, 64},
                                       {7, 100, 63},
                                       {100, 7, 3},
                                       {1, 70, 130},
                                       {31, 17, 129},
                                       {330, 260, 400},
                                       {130, 650, 400}}};
  EXPECT_EQ(cpu::all_i8_loops().front(), &cpu::i8_loops());
  ThreadPool one(1), three(3);
  for (const auto& [m, n, k] : sizes) {
    // Rows and columns with room between them, and turned.
    const auto a = draw_bytes(3 * m * k, 1), b = draw_bytes(3 * n * k, 2);
    for (int layout = 0; layout < 9; ++layout) {
      I8Product p{.m = m, .n = n, .k = k, .a = a.data(), .b = b.data()};
      const std::array<std::array<int64_t, 2>, 3> of_a{{{k, 1}, {1, m}, {3 * k, 3}}};
      const std::array<std::array<int64_t, 2>, 3> of_b{{{n, 1}, {1, k}, {3 * n, 3}}};
      p.a_row = of_a[static_cast<size_t>(layout % 3)][0];
      p.a_k = of_a[static_cast<size_t>(layout % 3)][1];
      p.b_k = of_b[static_cast<size_t>(layout / 3)][0];
      p.b_column = of_b[static_cast<size_t>(layout / 3)][1];
      const bool is_large = m * n * k > 10'000'000;
      if (is_large && layout != 4) continue;
      for (int signs = is_large ? 1 : 0; signs < (is_large ? 2 : 4); ++signs) {
        p.a_signed = signs % 2 == 1;
        p.b_signed = signs / 2 == 1;
        const auto expected = naive(p);
        for (const cpu::I8Loops* loops : cpu::all_i8_loops()) {
          SCOPED_TRACE(testing::Message() << loops->name << ": " << m << " x " << n << " x " << k << ", layout "
                                          << layout << ", signs " << signs);
          // Rows of the result lie apart, and what is between them stays.
          std::vector<int32_t> c(static_cast<size_t>(m * (n + 3)), -77);
          p.c = c.data();
          p.c_row = n + 3;
          const auto check = [&] {
            for (int64_t i = 0; i < m; ++i) {
              for (int64_t j = 0; j < n + 3; ++j) {
                const auto at = static_cast<size_t>(i * (n + 3) + j);
                ASSERT_EQ(c[at], j < n ? expected[static_cast<size_t>(i * n + j)] : -77) << i << ", " << j;
                c[at] = -77;
              }
            }
          };
          product(p, *loops);
          ASSERT_NO_FATAL_FAILURE(check());
          product(p, *loops, three);
          ASSERT_NO_FATAL_FAILURE(check());
          I8Product ready = p;
          const auto packed = pack_right_i8(p, *loops, one);
          ready.packed = packed->data();
          ready.b = nullptr;
          product(ready, *loops, one);
          ASSERT_NO_FATAL_FAILURE(check());
        }
      }
    }
  }
}

// 70,000 products of 255 x 255 are more than 2^31.
TEST(ProductI8, SumsWrap) {
  const int64_t k = 70000;
  const std::vector<uint8_t> ones(static_cast<size_t>(k), 0xff);
  for (const cpu::I8Loops* loops : cpu::all_i8_loops()) {
    int32_t c = 0;
    I8Product p{.m = 1,
                .n = 1,
                .k = k,
                .a = ones.data(),
                .a_row = k,
                .a_k = 1,
                .b = ones.data(),
                .b_k = 1,
                .b_column = k,
                .c = &c,
                .c_row = 1};
    product(p, *loops);
    EXPECT_EQ(c, static_cast<int32_t>(static_cast<uint32_t>(k * 255 * 255))) << loops->name;
    p.a_signed = true;
    product(p, *loops);
    EXPECT_EQ(c, -k * 255) << loops->name;
  }
}

}  // namespace
}  // namespace tenon::test
