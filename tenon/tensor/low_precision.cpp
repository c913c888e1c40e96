#include "tenon/tensor/low_precision.h"

#include <type_traits>

namespace tenon {
namespace {

// A binary float format of at most 16 bits.
struct Format {
  int exponent_bits;
  int mantissa_bits;
  bool infinities;  // the highest exponent means infinity and NaN; if not, only the all-ones pattern is NaN
};
constexpr Format kF16{5, 10, true};
constexpr Format kBf16{8, 7, true};
constexpr Format kF8e4m3{4, 3, false};
constexpr Format kF8e5m2{5, 2, true};

// Source is float or double; one rounding, to nearest, ties to even.
template <Format F, class Source>
uint32_t narrow(Source value) {
  using Bits = std::conditional_t<sizeof(Source) == 8, uint64_t, uint32_t>;
  constexpr int kSourceMantissa = sizeof(Source) == 8 ? 52 : 23;
  constexpr int kSourceBias = sizeof(Source) == 8 ? 1023 : 127;
  constexpr int kSourceWidth = sizeof(Source) * 8;
  constexpr int kBias = (1 << (F.exponent_bits - 1)) - 1;
  constexpr uint32_t kExponentMask = ((1u << F.exponent_bits) - 1u) << F.mantissa_bits;
  constexpr uint32_t kOverflow = F.infinities ? kExponentMask : (kExponentMask | ((1u << F.mantissa_bits) - 1u));
  constexpr int kDrop = kSourceMantissa - F.mantissa_bits;

  const Bits bits = std::bit_cast<Bits>(value);
  const uint32_t sign = static_cast<uint32_t>(bits >> (kSourceWidth - 1)) << (F.exponent_bits + F.mantissa_bits);
  const Bits magnitude = bits & ~(Bits{1} << (kSourceWidth - 1));
  const Bits infinity = Bits(2 * kSourceBias + 1) << kSourceMantissa;
  if (magnitude > infinity) {
    // The upper bits of the payload survive, as in hardware and NumPy; at least one stays set.
    if constexpr (!F.infinities) return sign | kOverflow;
    const auto payload = static_cast<uint32_t>((magnitude & ~infinity) >> kDrop);
    return sign | kExponentMask | (1u << (F.mantissa_bits - 1)) | payload;
  }
  if (magnitude == infinity) return sign | kOverflow;

  const int exponent = static_cast<int>(magnitude >> kSourceMantissa) - kSourceBias + kBias;  // as stored in F
  // Numbers below F's smallest normal lose one more bit for each step down.
  int drop = kDrop;
  Bits mantissa = magnitude;
  if (exponent <= 0) {
    if (exponent < -F.mantissa_bits) return sign;  // less than half of the smallest subnormal
    mantissa = (magnitude & ((Bits{1} << kSourceMantissa) - 1)) | (Bits{1} << kSourceMantissa);
    drop += 1 - exponent;
  } else {
    // Rebias; the exponent stays glued to the mantissa, so that a carry out of rounding moves into it.
    mantissa = magnitude - (Bits(kSourceBias - kBias) << kSourceMantissa);
  }
  const Bits half = (Bits{1} << (drop - 1)) - 1 + ((mantissa >> drop) & 1);
  const Bits rounded = (mantissa + half) >> drop;
  return sign | (rounded >= kOverflow ? kOverflow : static_cast<uint32_t>(rounded));
}

template <Format F>
float widen(uint32_t bits) {
  constexpr int kBias = (1 << (F.exponent_bits - 1)) - 1;
  constexpr uint32_t kMantissaMask = (1u << F.mantissa_bits) - 1u;
  constexpr uint32_t kExponentMax = (1u << F.exponent_bits) - 1u;
  const uint32_t sign = (bits >> (F.exponent_bits + F.mantissa_bits)) << 31;
  const uint32_t exponent = (bits >> F.mantissa_bits) & kExponentMax;
  uint32_t mantissa = bits & kMantissaMask;
  const bool special = exponent == kExponentMax && (F.infinities || mantissa == kMantissaMask);
  if (special) {
    if (!F.infinities) return std::bit_cast<float>(sign | 0x7fc00000u);
    return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << (23 - F.mantissa_bits)));
  }
  if (exponent != 0) {
    return std::bit_cast<float>(sign | ((exponent + 127 - kBias) << 23) | (mantissa << (23 - F.mantissa_bits)));
  }
  if (mantissa == 0) return std::bit_cast<float>(sign);
  const int shift = std::countl_zero(mantissa) - (31 - F.mantissa_bits);  // brings the leading one to the hidden place
  mantissa = (mantissa << shift) & kMantissaMask;
  return std::bit_cast<float>(sign | (static_cast<uint32_t>(128 - kBias - shift) << 23) |
                              (mantissa << (23 - F.mantissa_bits)));
}

}  // namespace

float f16_to_f32(uint16_t bits) { return widen<kF16>(bits); }
uint16_t f32_to_f16(float value) { return static_cast<uint16_t>(narrow<kF16>(value)); }
uint16_t f64_to_f16(double value) { return static_cast<uint16_t>(narrow<kF16>(value)); }
uint16_t f64_to_bf16(double value) { return static_cast<uint16_t>(narrow<kBf16>(value)); }
float f8e4m3_to_f32(uint8_t bits) { return widen<kF8e4m3>(bits); }
uint8_t f32_to_f8e4m3(float value) { return static_cast<uint8_t>(narrow<kF8e4m3>(value)); }
uint8_t f64_to_f8e4m3(double value) { return static_cast<uint8_t>(narrow<kF8e4m3>(value)); }
float f8e5m2_to_f32(uint8_t bits) { return widen<kF8e5m2>(bits); }
uint8_t f32_to_f8e5m2(float value) { return static_cast<uint8_t>(narrow<kF8e5m2>(value)); }
uint8_t f64_to_f8e5m2(double value) { return static_cast<uint8_t>(narrow<kF8e5m2>(value)); }

}  // namespace tenon
