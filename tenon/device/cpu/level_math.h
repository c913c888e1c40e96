// Elementary functions for the loops: branch-free in f32 so that the compiler vectorises them, the C library in f64.
//
// Accuracy is tested against NumPy's published vectors (at most 2 ulp in f32). Multiply-adds are fused where it is
// written, exactly on every CPU level, so that all give the same bits. Included by level_*.cpp only, inside the level's
// namespace.
#pragma once

#include <math.h>    // NOLINT(modernize-deprecated-headers): the C functions, no templates
#include <stdint.h>  // NOLINT(modernize-deprecated-headers)

namespace tenon::cpu::TENON_CPU_LEVEL {

inline uint32_t bits_of(float x) { return __builtin_bit_cast(uint32_t, x); }
inline float float_of(uint32_t x) { return __builtin_bit_cast(float, x); }
inline uint64_t bits_of(double x) { return __builtin_bit_cast(uint64_t, x); }
inline double double_of(uint64_t x) { return __builtin_bit_cast(double, x); }

// a * b + c, rounded once.
inline float fma_f32(float a, float b, float c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fmaf(a, b, c);
#else
  // In f64 the product is exact. The sum is rounded to odd, so that the second rounding cannot go wrong (S. Boldo and
  // G. Melquiond, Emulation of a FMA and Correctly Rounded Sums, 2008).
  const double product = static_cast<double>(a) * b, sum = product + c;
  const double part = sum - product;
  const double error = (product - (sum - part)) + (c - part);
  const uint64_t bits = bits_of(sum), up = (error > 0) == (sum > 0) ? 1 : ~uint64_t{0};
  const bool inexact = error > 0 || error < 0;  // an infinite sum has a NaN for an error
  return static_cast<float>(double_of(bits + (inexact && (bits & 1) == 0 ? up : 0)));
#endif
}

inline double fma_f64(double a, double b, double c) { return __builtin_fma(a, b, c); }

// exp for f32: x = n ln 2 + r, and exp(r) = 1 + r + r^2 p(r), times 2^n. p's factors, the highest first: the largest
// relative error of exp(r) for |r| <= ln 2 / 2 is the least that four powers allow, 3.1e-9 (Remez' exchange); with
// f32's roundings exp is at most 1.01 ulp off (all f32 from -86 to 86).
inline constexpr float kExpFactors[] = {1.3814598788e-3F, 8.3687165752e-3F, 4.1668388993e-2F, 1.6666521132e-1F,
                                        4.9999994040e-1F};
struct ExpParts {
  float shifted;  // n + 1.5 * 2^23
  float y;        // exp(r)
};
inline ExpParts exp_parts(float c) {
  const float shifted = fma_f32(c, 1.44269504088896341F, 12582912.0F);  // rounds; n is in the low bits
  const float n = shifted - 12582912.0F;
  const float r = fma_f32(n, 2.12194440e-4F, fma_f32(n, -0.693359375F, c));
  float p = kExpFactors[0];
  p = fma_f32(p, r, kExpFactors[1]);
  p = fma_f32(p, r, kExpFactors[2]);
  p = fma_f32(p, r, kExpFactors[3]);
  p = fma_f32(p, r, kExpFactors[4]);
  return {shifted, fma_f32(p, r * r, r) + 1.0F};
}
inline float exp_f32(float x) {
  float c = x > 89.0F ? 89.0F : x;
  c = c < -104.0F ? -104.0F : c;
  const ExpParts e = exp_parts(c);
  // Zero stays zero: what is rounded to it takes the CPU a hundred times as long, and masks make many of them.
  const float y = c == -104.0F ? 0.0F : e.y;
  // In two steps for denormal results.
  const int32_t k = static_cast<int32_t>(bits_of(e.shifted)) - 0x4b400000;
  const int32_t half = k >> 1;
  const float s1 = float_of(static_cast<uint32_t>(half + 127) << 23);
  const float s2 = float_of(static_cast<uint32_t>(k - half + 127) << 23);
  return (y * s1) * s2;
}
// The same bits for |x| < 80: n goes into the exponent.
inline float exp_near_f32(float x) {
  const ExpParts e = exp_parts(x);
  return float_of(bits_of(e.y) + (bits_of(e.shifted) << 23));
}

// log for f32 (Cephes logf): x = m 2^e with m in [sqrt(1/2), sqrt(2)).
inline float log_f32(float x) {
  const bool tiny = x < 1.17549435e-38F;
  const float scaled = tiny ? x * 8388608.0F : x;
  const int32_t ix = static_cast<int32_t>(bits_of(scaled) - 0x3f3504f3U);
  const float e = static_cast<float>((ix >> 23) - (tiny ? 23 : 0));
  const float f = float_of((static_cast<uint32_t>(ix) & 0x7fffffU) + 0x3f3504f3U) - 1.0F;
  const float z = f * f;
  float p = 7.0376836292e-2F;
  p = fma_f32(p, f, -1.1514610310e-1F);
  p = fma_f32(p, f, 1.1676998740e-1F);
  p = fma_f32(p, f, -1.2420140846e-1F);
  p = fma_f32(p, f, 1.4249322787e-1F);
  p = fma_f32(p, f, -1.6668057665e-1F);
  p = fma_f32(p, f, 2.0000714765e-1F);
  p = fma_f32(p, f, -2.4999993993e-1F);
  p = fma_f32(p, f, 3.3333331174e-1F);
  float y = fma_f32(e, -2.12194440e-4F, f * z * p);
  y = fma_f32(z, -0.5F, y);
  float r = fma_f32(e, 0.693359375F, f + y);
  r = x == 0.0F ? -__builtin_inff() : r;
  r = x < 0.0F ? __builtin_nanf("") : r;
  return (x == __builtin_inff() || x != x) ? x : r;
}

inline float tanh_f32(float x) {
  const float a = __builtin_fabsf(x);
  const float z = x * x;
  float p = -5.70498872745e-3F;
  p = fma_f32(p, z, 2.06390887954e-2F);
  p = fma_f32(p, z, -5.37397155531e-2F);
  p = fma_f32(p, z, 1.33314422036e-1F);
  p = fma_f32(p, z, -3.33332819422e-1F);
  const float small = fma_f32(p, z * x, x);
  const float c = a > 10.0F ? 10.0F : a;
  const float large = 1.0F - 2.0F / (exp_near_f32(c + c) + 1.0F);
  const float signed_large = __builtin_copysignf(large, x);
  return a < 0.625F ? small : (x != x ? x : signed_large);
}

// 2^x for f32, to 1e-7 of it, for |x| < 100.
inline float exp2_near_f32(float x) {
  const float shifted = x + 12582912.0F;  // 1.5 * 2^23: rounds to a whole number
  const float f = x - (shifted - 12582912.0F);
  float p = 1.32764562e-3F;
  p = fma_f32(p, f, 9.67554096e-3F);
  p = fma_f32(p, f, 5.55071346e-2F);
  p = fma_f32(p, f, 2.40221202e-1F);
  p = fma_f32(p, f, 6.93146944e-1F);
  p = fma_f32(p, f, 1.0F);
  return float_of(bits_of(p) + (bits_of(shifted) << 23));
}

// erf for f32, to two units in the last place: a polynomial, and from 0.93 on one of log2(1 - erf), whose value counts
// for so little there that five terms do. (The two ranges are those of N. Juffa's; the minimax polynomials of the outer
// one were found for this function.)
inline float erf_f32(float x) {
  const float a = __builtin_fabsf(x);
  const float t = a > 4.0F ? 4.0F : a;
  const float s = t * t;
  float r = -1.77739258e-3F;
  r = fma_f32(r, t, 2.22541001e-2F);
  r = fma_f32(r, t, -1.30763933e-1F);
  r = fma_f32(r, t, -9.39854741e-1F);
  r = fma_f32(r, t, -1.61535573F);
  r = fma_f32(r, t, -2.91889091e-3F);
  const float outer = __builtin_copysignf(1.0F - exp2_near_f32(r), x);
  float q = -5.96761703e-4F;
  q = fma_f32(q, s, 4.99119423e-3F);
  q = fma_f32(q, s, -2.67681349e-2F);
  q = fma_f32(q, s, 1.12819925e-1F);
  q = fma_f32(q, s, -3.76125336e-1F);
  q = fma_f32(q, s, 1.28379166e-1F);
  const float inner = fma_f32(q, x, x);
  return a > 0.927734375F ? outer : inner;  // a NaN takes `inner`, which is NaN
}

// exp and log in f64 to about 1e-13: what f32 functions that lose digits in f32 are made of.
inline double exp_in_f64(double x) {
  double c = x > 710.0 ? 710.0 : x;
  c = c < -745.0 ? -745.0 : c;
  const double shifted = c * 1.4426950408889634 + 6755399441055744.0;
  const double n = shifted - 6755399441055744.0;
  const int64_t k = static_cast<int64_t>(bits_of(shifted)) - 0x4338000000000000;
  const double r = (c - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  double p = 1.0 / 39916800;
  p = p * r + 1.0 / 3628800;
  p = p * r + 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  const int64_t half = k >> 1;
  return (p * double_of(static_cast<uint64_t>(half + 1023) << 52)) *
         double_of(static_cast<uint64_t>(k - half + 1023) << 52);
}
// x positive, finite and normal in f64.
inline double log_in_f64(double x) {
  const int64_t ix = static_cast<int64_t>(bits_of(x) - 0x3fe6a09e667f3bcdULL);
  // The exponent as a double without a 64-bit conversion, which SSE and AVX2 lack.
  const double e = double_of(static_cast<uint64_t>(ix >> 52) + 0x4338000000000000ULL) - 6755399441055744.0;
  const double m = double_of((static_cast<uint64_t>(ix) & 0xfffffffffffffULL) + 0x3fe6a09e667f3bcdULL);
  const double s = (m - 1.0) / (m + 1.0);
  const double z = s * s;
  double p = 2.0 / 17;
  p = p * z + 2.0 / 15;
  p = p * z + 2.0 / 13;
  p = p * z + 2.0 / 11;
  p = p * z + 2.0 / 9;
  p = p * z + 2.0 / 7;
  p = p * z + 2.0 / 5;
  p = p * z + 2.0 / 3;
  return e * 0.6931471805599453 + (s * 2.0 + p * (s * z));
}
// `value` = g(x) for x > 0; the usual answers elsewhere.
inline float log_special(float x, double value) {
  const float r = static_cast<float>(value);
  const float low = x == 0.0F ? -__builtin_inff() : __builtin_nanf("");
  return x > 0.0F ? (x == __builtin_inff() ? x : r) : (x != x ? x : low);
}
inline float log2_f32(float x) { return log_special(x, log_in_f64(x) * 1.4426950408889634); }
inline float log10_f32(float x) { return log_special(x, log_in_f64(x) * 0.4342944819032518); }
inline float exp2_f32(float x) {
  const float y = static_cast<float>(exp_in_f64(static_cast<double>(x) * 0.6931471805599453));
  return x != x ? x : y;
}
inline float expm1_f32(float x) {
  const double d = x;
  const double large = exp_in_f64(d) - 1.0;
  const double small = d + d * d * 0.5;
  const float y = static_cast<float>(__builtin_fabs(d) < 1e-4 ? small + d * d * d * (1.0 / 6) : large);
  return (x != x || x == 0.0F) ? x : y;
}
inline float log1p_f32(float x) {
  const double d = x;
  const double small = d - d * d * (0.5 - d * (1.0 / 3));
  const float inner = static_cast<float>(__builtin_fabs(d) < 1e-5 ? small : log_in_f64(d + 1.0));
  const float low = x == -1.0F ? -__builtin_inff() : __builtin_nanf("");
  const float r = x > -1.0F ? inner : low;
  return (x != x || x == 0.0F || x == __builtin_inff()) ? x : r;
}
inline float sinh_f32(float x) {
  const double d = x;
  const double e = exp_in_f64(d);
  const double large = 0.5 * (e - 1.0 / e);
  const double z = d * d;
  const double small = d * (1.0 + z * (1.0 / 6 + z * (1.0 / 120 + z * (1.0 / 5040))));
  return static_cast<float>(__builtin_fabs(d) < 0.125 ? small : large);
}
inline float cosh_f32(float x) {
  const double e = exp_in_f64(__builtin_fabs(static_cast<double>(x)));
  return static_cast<float>(0.5 * (e + 1.0 / e));
}

// sin and cos for |x| <= kTrigLimit: reduction and polynomials in f64 (the coefficients are FreeBSD's k_sinf, k_cosf).
inline constexpr float kTrigLimit = 1e5F;
inline float trig_f32(float x, uint64_t quarter) {
  const double d = x;
  const double shifted = d * 0.63661977236758134308 + 6755399441055744.0;
  const double n = shifted - 6755399441055744.0;
  const uint64_t q = bits_of(shifted) + quarter;
  const double r = (d - n * 1.57079631090164184570) - n * 1.58932547735281966916e-8;
  const double z = r * r;
  const double s =
      r * (1.0 +
           z * (-0.166666666416265235595 +
                z * (0.0083333293858894631756 + z * (-0.000198393348360966317347 + z * 0.0000027183114939898219064))));
  const double c =
      1.0 + z * (-0.499999997251031003120 +
                 z * (0.0416666233237390631894 + z * (-0.00138867637746099294692 + z * 0.0000243904487962774090654)));
  const uint64_t odd = 0 - (q & 1);  // all ones: the cosine
  const uint64_t sign = (q & 2) << 62;
  return static_cast<float>(double_of(((bits_of(s) & ~odd) | (bits_of(c) & odd)) ^ sign));
}
inline float sin_f32(float x) { return trig_f32(x, 0); }
inline float cos_f32(float x) { return trig_f32(x, 1); }

// Inverse of erf: an approximation (M. Giles), then Halley steps. f64; f32 goes by way of it.
// p[7] x^7 + … + p[0]
inline double polynomial(const double (&p)[8], double x) {
  double y = p[7];
#pragma GCC unroll 7
  for (int i = 6; i >= 0; --i) y = y * x + p[i];
  return y;
}
// From the quantiles of the normal distribution by rational functions, to 1e-15 (Wichura, algorithm AS 241, 1988): one
// for |x| up to 0.85, one for the ends, where an f32 stays below 1 - 2^-24.
inline float erfinv_f32(float x) {
  constexpr double kA[] = {3.3871328727963666080e0,  1.3314166789178437745e+2, 1.9715909503065514427e+3,
                           1.3731693765509461125e+4, 4.5921953931549871457e+4, 6.7265770927008700853e+4,
                           3.3430575583588128105e+4, 2.5090809287301226727e+3};
  constexpr double kB[] = {1.0,
                           4.2313330701600911252e+1,
                           6.8718700749205790830e+2,
                           5.3941960214247511077e+3,
                           2.1213794301586595867e+4,
                           3.9307895800092710610e+4,
                           2.8729085735721942674e+4,
                           5.2264952788528545610e+3};
  constexpr double kC[] = {1.42343711074968357734e0,  4.63033784615654529590e0, 5.76949722146069140550e0,
                           3.64784832476320460504e0,  1.27045825245236838258e0, 2.41780725177450611770e-1,
                           2.27238449892691845833e-2, 7.74545014278341407640e-4};
  constexpr double kD[] = {1.0,
                           2.05319162663775882187e0,
                           1.67638483018380384940e0,
                           6.89767334985100004550e-1,
                           1.48103976427480074590e-1,
                           1.51986665636164571966e-2,
                           5.47593808499534494600e-4,
                           1.05075007164441684324e-9};
  const double d = x, a = __builtin_fabs(d);
  const double q = d * 0.5, near = 0.180625 - q * q;
  const double middle = q * polynomial(kA, near) / polynomial(kB, near);
  const double tail = a < 1.0 ? (1.0 - a) * 0.5 : 0.25;
  const double r = __builtin_sqrt(-log_in_f64(tail)) - 1.6;
  const double outer = __builtin_copysign(polynomial(kC, r) / polynomial(kD, r), d);
  const float y = static_cast<float>((a <= 0.85 ? middle : outer) * 0.70710678118654752440);
  const float end = __builtin_copysignf(__builtin_inff(), x);
  return a < 1.0 ? y : (a == 1.0 ? end : __builtin_nanf(""));
}
inline double erfinv_f64(double x) {
  if (x != x || x < -1 || x > 1) return __builtin_nan("");
  if (x == 1 || x == -1) return x * __builtin_inf();
  const double w = -::log((1 - x) * (1 + x));
  double y;
  if (w < 5) {
    const double v = w - 2.5;
    y = ((((((((2.81022636e-08 * v + 3.43273939e-07) * v - 3.5233877e-06) * v - 4.39150654e-06) * v + 0.00021858087) *
                v -
            0.00125372503) *
               v -
           0.00417768164) *
              v +
          0.246640727) *
             v +
         1.50140941) *
        x;
  } else {
    const double v = ::sqrt(w) - 3;
    y = ((((((((-0.000200214257 * v + 0.000100950558) * v + 0.00134934322) * v - 0.00367342844) * v + 0.00573950773) *
                v -
            0.0076224613) *
               v +
           0.00943887047) *
              v +
          1.00167406) *
             v +
         2.83297682) *
        x;
  }
  for (int step = 0; step < 4; ++step) {
    // Near the ends erfc keeps the digits that erf loses.
    const double a = __builtin_fabs(y);
    const double tail = (1 - __builtin_fabs(x)) - ::erfc(a);
    const double miss = a < 0.5 ? ::erf(y) - x : (y < 0 ? -tail : tail);
    const double slope = 1.1283791670955126 * ::exp(-y * y);
    const double delta = miss / slope;
    y -= delta / (1 + y * delta);
  }
  return y;
}

inline double digamma_f64(double x) {
  if (x != x || x == __builtin_inf()) return x;
  if (x == 0) return __builtin_copysign(__builtin_inf(), -x);
  double result = 0;
  if (x < 0) {
    const double whole = __builtin_floor(x);
    if (x == whole) return __builtin_nan("");
    // Reflection: psi(1 - x) - psi(x) = pi / tan(pi x)
    result = -3.14159265358979323846 / ::tan(3.14159265358979323846 * (x - whole));
    x = 1 - x;
  }
  while (x < 10) {
    result -= 1 / x;
    x += 1;
  }
  const double z = 1 / (x * x);
  const double series =
      z *
      (1.0 / 12 - z * (1.0 / 120 - z * (1.0 / 252 - z * (1.0 / 240 - z * (1.0 / 132 - z * (691.0 / 32760 - z / 12))))));
  return result + ::log(x) - 0.5 / x - series;
}

}  // namespace tenon::cpu::TENON_CPU_LEVEL
