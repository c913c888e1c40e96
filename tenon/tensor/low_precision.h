// Conversions between the narrow float formats and f32. Rounding is to nearest, ties to even.
//
//   f16     IEEE 754 binary16            bf16    upper half of binary32
//   f8e4m3  OFP8 E4M3 "fn": no infinity, NaN is S.1111.111, largest 448; overflow gives NaN
//   f8e5m2  OFP8 E5M2: IEEE-like, largest 57344; overflow gives infinity
// (Open Compute Project, OFP8 specification 1.0; the same rules as ml_dtypes' float8_e4m3fn, float8_e5m2.)
#pragma once

#include <bit>
#include <cstdint>

namespace tenon {

float f16_to_f32(uint16_t bits);
uint16_t f32_to_f16(float value);
// One rounding, from f64 directly: f64 -> f32 -> f16 would round twice.
uint16_t f64_to_f16(double value);
inline float bf16_to_f32(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
inline uint16_t f32_to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);  // quiet NaN
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
uint16_t f64_to_bf16(double value);
float f8e4m3_to_f32(uint8_t bits);
uint8_t f32_to_f8e4m3(float value);
float f8e5m2_to_f32(uint8_t bits);
uint8_t f32_to_f8e5m2(float value);
uint8_t f64_to_f8e4m3(double value);
uint8_t f64_to_f8e5m2(double value);

}  // namespace tenon
