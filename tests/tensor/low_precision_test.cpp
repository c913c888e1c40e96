#include "tenon/tensor/low_precision.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <fstream>
#include <iterator>
#include <vector>

namespace tenon {
namespace {

TEST(LowPrecision, EveryPatternSurvivesTheWayThroughF32AndF64) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto pattern = static_cast<uint16_t>(bits);
    const float half = f16_to_f32(pattern), brain = bf16_to_f32(pattern);
    if (std::isnan(half)) {
      EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(half))) && std::isnan(f16_to_f32(f64_to_f16(half))));
    } else {
      ASSERT_EQ(f32_to_f16(half), pattern);
      ASSERT_EQ(f64_to_f16(half), pattern);
    }
    if (std::isnan(brain)) {
      EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(brain))) && std::isnan(bf16_to_f32(f64_to_bf16(brain))));
    } else {
      ASSERT_EQ(f32_to_bf16(brain), pattern);
      ASSERT_EQ(f64_to_bf16(brain), pattern);
    }
  }
  for (uint32_t bits = 0; bits < 256; ++bits) {
    const auto pattern = static_cast<uint8_t>(bits);
    const float e4m3 = f8e4m3_to_f32(pattern), e5m2 = f8e5m2_to_f32(pattern);
    if (!std::isnan(e4m3)) {
      EXPECT_EQ(f32_to_f8e4m3(e4m3), pattern);
      EXPECT_EQ(f64_to_f8e4m3(e4m3), pattern);
    }
    if (!std::isnan(e5m2)) {
      EXPECT_EQ(f32_to_f8e5m2(e5m2), pattern);
      EXPECT_EQ(f64_to_f8e5m2(e5m2), pattern);
    }
  }
}

// The compiler's own _Float16 rounds in hardware or in its run-time library: written by somebody else.
TEST(LowPrecision, F16AgreesWithTheCompilersHalfType) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto expected = static_cast<float>(std::bit_cast<_Float16>(static_cast<uint16_t>(bits)));
    const float got = f16_to_f32(static_cast<uint16_t>(bits));
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(got));
    } else {
      ASSERT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(expected));
    }
  }
  for (uint64_t bits = 0; bits <= 0xffffffffu; bits += 4099) {
    const auto value = std::bit_cast<float>(static_cast<uint32_t>(bits));
    if (std::isnan(value)) continue;
    ASSERT_EQ(f32_to_f16(value), std::bit_cast<uint16_t>(static_cast<_Float16>(value))) << value;
  }
}

TEST(LowPrecision, EveryEightBitPatternIsTheNumberThatMlDtypesSays) {
  std::ifstream file(TENON_SOURCE_DIR "/tests/tensor/goldens/low_precision_values.bin", std::ios::binary);
  std::vector<float> expected(512);
  ASSERT_TRUE(file.read(reinterpret_cast<char*>(expected.data()), 512 * sizeof(float)));
  for (size_t bits = 0; bits < 256; ++bits) {
    const float e4m3 = f8e4m3_to_f32(static_cast<uint8_t>(bits)), e5m2 = f8e5m2_to_f32(static_cast<uint8_t>(bits));
    EXPECT_TRUE(e4m3 == expected[bits] || (std::isnan(e4m3) && std::isnan(expected[bits]))) << bits;
    EXPECT_EQ(std::signbit(e4m3), std::signbit(expected[bits])) << bits;
    EXPECT_TRUE(e5m2 == expected[256 + bits] || (std::isnan(e5m2) && std::isnan(expected[256 + bits]))) << bits;
    EXPECT_EQ(std::signbit(e5m2), std::signbit(expected[256 + bits])) << bits;
  }
}

uint32_t cast(const std::string& source, const std::string& format, uint64_t bits) {
  if (source == "f32") {
    const auto value = std::bit_cast<float>(static_cast<uint32_t>(bits));
    if (format == "f16") return f32_to_f16(value);
    if (format == "bf16") return f32_to_bf16(value);
    return format == "f8e4m3" ? f32_to_f8e4m3(value) : f32_to_f8e5m2(value);
  }
  const auto value = std::bit_cast<double>(bits);
  if (format == "f16") return f64_to_f16(value);
  if (format == "bf16") return f64_to_bf16(value);
  return format == "f8e4m3" ? f64_to_f8e4m3(value) : f64_to_f8e5m2(value);
}

TEST(LowPrecision, CastsRoundAsNumpyAndMlDtypesDo) {
  std::ifstream golden(TENON_SOURCE_DIR "/tests/tensor/goldens/low_precision_casts.txt");
  std::string source, format, bits, expected;
  int cases = 0;
  while (golden >> source >> format >> bits >> expected) {
    EXPECT_EQ(cast(source, format, std::stoull(bits, nullptr, 16)), std::stoul(expected, nullptr, 16))
        << source << " -> " << format << " of " << bits;
    ++cases;
  }
  EXPECT_GT(cases, 1500);
}

TEST(LowPrecision, F64RoundsOnce) {
  // Just above the middle of two f16 numbers, by less than f32 can tell: two roundings would go to even, below.
  const double value = 1.0 + 0x1p-11 + 0x1p-40;
  EXPECT_EQ(f64_to_f16(value), 0x3c01);
  EXPECT_EQ(f32_to_f16(static_cast<float>(value)), 0x3c00);
  EXPECT_EQ(f64_to_bf16(1.0 + 0x1p-8 + 0x1p-40), 0x3f81);
  EXPECT_EQ(f64_to_f8e4m3(1.0 + 0x1p-4 + 0x1p-40), 0x39);
}

TEST(LowPrecision, OverflowAndNan) {
  EXPECT_EQ(f32_to_f16(65519.996f), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(f64_to_f16(-1e300), 0xfc00);
  EXPECT_EQ(f64_to_bf16(1e300), 0x7f80);
  EXPECT_EQ(f32_to_f8e4m3(448.0f), 0x7e);
  EXPECT_EQ(f32_to_f8e4m3(464.0f), 0x7e);  // a tie: to even, which is 448
  EXPECT_EQ(f32_to_f8e4m3(465.0f), 0x7f);  // NaN: this format has no infinity
  EXPECT_EQ(f32_to_f8e5m2(-61440.0f), 0xfc);
  EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(NAN))));
  EXPECT_TRUE(std::isnan(f8e4m3_to_f32(f32_to_f8e4m3(-NAN))));
  EXPECT_TRUE(std::isnan(f8e5m2_to_f32(f64_to_f8e5m2(NAN))));
}

}  // namespace
}  // namespace tenon
