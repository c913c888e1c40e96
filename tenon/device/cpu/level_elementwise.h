// The instructions of scalar programs as loops over blocks. Included by level_*.cpp only.
//
// An instruction is a struct with `f` on one element; the loop templates do the rest. Semantics: ir/scalar.h.
#pragma once

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "tenon/device/cpu/level_math.h"
#include "tenon/tensor/low_precision.h"

// Iterations are independent even where out and an operand are the same memory.
#if defined(__clang__)
#define TENON_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define TENON_INDEPENDENT _Pragma("GCC ivdep")
#endif

namespace tenon::cpu::TENON_CPU_LEVEL {

// A bool in memory: a byte that is 0 or 1, with its own rules.
enum class Truth : uint8_t { no = 0, yes = 1 };

template <class T>
struct Kind {
  static constexpr bool is_float = false;
  static constexpr bool is_signed = static_cast<T>(-1) < static_cast<T>(0);
};
template <>
struct Kind<float> {
  static constexpr bool is_float = true, is_signed = true;
};
template <>
struct Kind<double> {
  static constexpr bool is_float = true, is_signed = true;
};
template <>
struct Kind<Truth> {
  static constexpr bool is_float = false, is_signed = false;
};
template <class A, class B>
inline constexpr bool kSame = false;
template <class A>
inline constexpr bool kSame<A, A> = true;

// Integers of a width wrap: arithmetic is done on the unsigned type of at least 32 bits.
template <class T>
struct Wide {
  using type = uint32_t;
};
template <>
struct Wide<int64_t> {
  using type = uint64_t;
};
template <>
struct Wide<uint64_t> {
  using type = uint64_t;
};

template <class F, class R, class A>
void loop1(void* out, const void* a, const void* /*b*/, const void* /*c*/, int64_t n) {
  R* r = static_cast<R*>(out);
  const A* x = static_cast<const A*>(a);
  TENON_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) r[i] = F::f(x[i]);
}
template <class F, class R, class A>
void loop2(void* out, const void* a, const void* b, const void* /*c*/, int64_t n) {
  R* r = static_cast<R*>(out);
  const A* x = static_cast<const A*>(a);
  const A* y = static_cast<const A*>(b);
  TENON_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) r[i] = F::f(x[i], y[i]);
}
template <class T>
void loop_select(void* out, const void* a, const void* b, const void* c, int64_t n) {
  T* r = static_cast<T*>(out);
  const uint8_t* condition = static_cast<const uint8_t*>(a);
  const T* x = static_cast<const T*>(b);
  const T* y = static_cast<const T*>(c);
  TENON_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) r[i] = condition[i] != 0 ? x[i] : y[i];
}

template <class T, T (*F)(T, T, T)>
void loop_fma(void* out, const void* a, const void* b, const void* c, int64_t n) {
  T* r = static_cast<T*>(out);
  const T *x = static_cast<const T*>(a), *y = static_cast<const T*>(b), *z = static_cast<const T*>(c);
  TENON_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) r[i] = F(x[i], y[i], z[i]);
}

// sin and cos: the few arguments beyond the limit go to the C library, one by one.
template <float (*Fast)(float), float (*Library)(float)>
void loop_trig(void* out, const void* a, const void* /*b*/, const void* /*c*/, int64_t n) {
  float* r = static_cast<float*>(out);
  const float* x = static_cast<const float*>(a);
  int32_t far = 0;
  TENON_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) far |= static_cast<int32_t>(__builtin_fabsf(x[i]) > kTrigLimit);
  if (far == 0) {
    TENON_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) r[i] = Fast(x[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) r[i] = __builtin_fabsf(x[i]) > kTrigLimit ? Library(x[i]) : Fast(x[i]);
  }
}
inline float library_sin(float x) { return ::sinf(x); }
inline float library_cos(float x) { return ::cosf(x); }

// ---- one operand ---------------------------------------------------------------------------
struct NegOp {
  template <class T>
  static T f(T x) {
    if constexpr (Kind<T>::is_float)
      return -x;
    else
      return static_cast<T>(0U - static_cast<typename Wide<T>::type>(x));
  }
};
struct AbsOp {
  static float f(float x) { return __builtin_fabsf(x); }
  static double f(double x) { return __builtin_fabs(x); }
  template <class T>
  static T f(T x) {
    return x < T{} ? NegOp::f(x) : x;
  }
};
struct SignOp {
  template <class T>
  static T f(T x) {
    if constexpr (Kind<T>::is_float)
      return x > 0 ? T(1) : (x < 0 ? T(-1) : (x == 0 ? T(0) : x));
    else
      return static_cast<T>((x > 0) - (x < 0));
  }
};
struct NotOp {
  static Truth f(Truth x) { return static_cast<Truth>(static_cast<uint8_t>(x) ^ 1U); }
  template <class T>
  static T f(T x) {
    return static_cast<T>(~x);
  }
};
struct PopCountOp {
  template <class T>
  static T f(T x) {
    const uint64_t mask = sizeof(T) == 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * sizeof(T) % 64)) - 1;
    return static_cast<T>(__builtin_popcountll(static_cast<uint64_t>(x) & mask));
  }
};
// An instruction with one function for f32 and one for f64.
template <float (*Single)(float), double (*Double)(double)>
struct Math1 {
  static float f(float x) { return Single(x); }
  static double f(double x) { return Double(x); }
};
struct FloorOp {
  static float f(float x) { return __builtin_floorf(x); }
  static double f(double x) { return __builtin_floor(x); }
};
struct CeilOp {
  static float f(float x) { return __builtin_ceilf(x); }
  static double f(double x) { return __builtin_ceil(x); }
};
struct RoundOp {
  static float f(float x) { return __builtin_rintf(x); }
  static double f(double x) { return __builtin_rint(x); }
};
struct TruncOp {
  static float f(float x) { return __builtin_truncf(x); }
  static double f(double x) { return __builtin_trunc(x); }
};
struct SqrtOp {
  static float f(float x) { return __builtin_sqrtf(x); }
  static double f(double x) { return __builtin_sqrt(x); }
};
struct IsNanOp {
  template <class T>
  static uint8_t f(T x) {
    return static_cast<uint8_t>(x != x);
  }
};
struct IsInfOp {
  template <class T>
  static uint8_t f(T x) {
    return static_cast<uint8_t>(AbsOp::f(x) == static_cast<T>(__builtin_inf()));
  }
};
struct IsFiniteOp {
  template <class T>
  static uint8_t f(T x) {
    return static_cast<uint8_t>(AbsOp::f(x) < static_cast<T>(__builtin_inf()));
  }
};
struct SignBitOp {
  static uint8_t f(float x) { return static_cast<uint8_t>(bits_of(x) >> 31); }
  static uint8_t f(double x) { return static_cast<uint8_t>(bits_of(x) >> 63); }
};

// ---- two operands --------------------------------------------------------------------------
struct AddOp {
  template <class T>
  static T f(T a, T b) {
    using W = typename Wide<T>::type;
    if constexpr (Kind<T>::is_float)
      return a + b;
    else if constexpr (kSame<T, Truth>)
      return a > b ? a : b;
    else
      return static_cast<T>(static_cast<W>(a) + static_cast<W>(b));
  }
};
struct SubOp {
  template <class T>
  static T f(T a, T b) {
    using W = typename Wide<T>::type;
    if constexpr (Kind<T>::is_float)
      return a - b;
    else
      return static_cast<T>(static_cast<W>(a) - static_cast<W>(b));
  }
};
struct MulOp {
  template <class T>
  static T f(T a, T b) {
    using W = typename Wide<T>::type;
    if constexpr (Kind<T>::is_float)
      return a * b;
    else if constexpr (kSame<T, Truth>)
      return a < b ? a : b;
    else
      return static_cast<T>(static_cast<W>(a) * static_cast<W>(b));
  }
};
// C's division made total: a zero divisor gives 0, the smallest number by -1 wraps.
template <class T>
inline T quotient(T a, T b) {
  if (b == 0) return 0;
  if constexpr (Kind<T>::is_signed) {
    if (b == static_cast<T>(-1)) return NegOp::f(a);
  }
  return static_cast<T>(a / b);
}
template <class T>
inline T remainder(T a, T b) {
  if (b == 0) return 0;
  if constexpr (Kind<T>::is_signed) {
    if (b == static_cast<T>(-1)) return 0;
  }
  return static_cast<T>(a % b);
}
inline float fmod_of(float a, float b) { return ::fmodf(a, b); }
inline double fmod_of(double a, double b) { return ::fmod(a, b); }
struct TdivOp {
  template <class T>
  static T f(T a, T b) {
    if constexpr (Kind<T>::is_float)
      return TruncOp::f(a / b);
    else
      return quotient(a, b);
  }
};
struct FmodOp {
  template <class T>
  static T f(T a, T b) {
    if constexpr (Kind<T>::is_float)
      return fmod_of(a, b);
    else
      return remainder(a, b);
  }
};
struct DivOp {
  template <class T>
  static T f(T a, T b) {
    if constexpr (Kind<T>::is_float)
      return a / b;
    else {
      const T q = quotient(a, b);
      const T r = remainder(a, b);
      return (r != 0 && (r < 0) != (b < 0)) ? static_cast<T>(q - 1) : q;
    }
  }
};
struct RemOp {
  template <class T>
  static T f(T a, T b) {
    if constexpr (Kind<T>::is_float) {
      const T r = fmod_of(a, b);
      const T zero = __builtin_copysign(0.0, static_cast<double>(b));
      if (r == 0) return zero;
      return (r < 0) != (b < 0) ? r + b : r;
    } else {
      const T r = remainder(a, b);
      return (r != 0 && (r < 0) != (b < 0)) ? static_cast<T>(r + b) : r;
    }
  }
};
struct PowOp {
  static float f(float a, float b) { return ::powf(a, b); }
  static double f(double a, double b) { return ::pow(a, b); }
  template <class T>
  static T f(T a, T b) {
    if constexpr (Kind<T>::is_signed) {
      if (b < 0) {
        if (a == 1) return 1;
        if (a == static_cast<T>(-1)) return (b & 1) != 0 ? static_cast<T>(-1) : static_cast<T>(1);
        return 0;
      }
    }
    using W = typename Wide<T>::type;
    W result = 1;
    W base = static_cast<W>(a);
    for (uint64_t e = static_cast<uint64_t>(b); e != 0; e >>= 1) {
      if ((e & 1) != 0) result *= base;
      base *= base;
    }
    return static_cast<T>(result);
  }
};
struct MinOp {
  template <class T>
  static T f(T a, T b) {
    if constexpr (Kind<T>::is_float)
      return (a < b || a != a) ? a : b;
    else
      return a < b ? a : b;
  }
};
struct MaxOp {
  template <class T>
  static T f(T a, T b) {
    if constexpr (Kind<T>::is_float)
      return (a > b || a != a) ? a : b;
    else
      return a > b ? a : b;
  }
};
struct AndOp {
  template <class T>
  static T f(T a, T b) {
    if constexpr (kSame<T, Truth>)
      return a < b ? a : b;
    else
      return static_cast<T>(a & b);
  }
};
struct OrOp {
  template <class T>
  static T f(T a, T b) {
    if constexpr (kSame<T, Truth>)
      return a > b ? a : b;
    else
      return static_cast<T>(a | b);
  }
};
struct XorOp {
  template <class T>
  static T f(T a, T b) {
    if constexpr (kSame<T, Truth>)
      return a == b ? Truth::no : Truth::yes;
    else
      return static_cast<T>(a ^ b);
  }
};
// A shift by a negative number counts as one by more than the width.
struct ShlOp {
  template <class T>
  static T f(T a, T b) {
    const bool in_range = b >= 0 && static_cast<uint64_t>(b) < 8 * sizeof(T);
    return in_range ? static_cast<T>(static_cast<uint64_t>(a) << static_cast<unsigned>(b)) : T{0};
  }
};
struct ShrOp {
  template <class T>
  static T f(T a, T b) {
    const bool in_range = b >= 0 && static_cast<uint64_t>(b) < 8 * sizeof(T);
    return in_range ? static_cast<T>(a >> static_cast<unsigned>(b)) : (a < 0 ? static_cast<T>(-1) : T{0});
  }
};
struct Atan2Op {
  static float f(float a, float b) { return ::atan2f(a, b); }
  static double f(double a, double b) { return ::atan2(a, b); }
};
struct NextAfterOp {
  static float f(float a, float b) { return ::nextafterf(a, b); }
  static double f(double a, double b) { return ::nextafter(a, b); }
};
struct CopySignOp {
  static float f(float a, float b) { return __builtin_copysignf(a, b); }
  static double f(double a, double b) { return __builtin_copysign(a, b); }
};
struct LtOp {
  template <class T>
  static uint8_t f(T a, T b) {
    return static_cast<uint8_t>(a < b);
  }
};
struct LeOp {
  template <class T>
  static uint8_t f(T a, T b) {
    return static_cast<uint8_t>(a <= b);
  }
};
struct EqOp {
  template <class T>
  static uint8_t f(T a, T b) {
    return static_cast<uint8_t>(a == b);
  }
};
struct NeOp {
  template <class T>
  static uint8_t f(T a, T b) {
    return static_cast<uint8_t>(a != b);
  }
};
struct GtOp {
  template <class T>
  static uint8_t f(T a, T b) {
    return static_cast<uint8_t>(a > b);
  }
};
struct GeOp {
  template <class T>
  static uint8_t f(T a, T b) {
    return static_cast<uint8_t>(a >= b);
  }
};

// ---- conversions ---------------------------------------------------------------------------
// Narrow floats as types of their own; 4- and 2-bit integers as whole bytes.
enum class Half : uint16_t {};
enum class Brain : uint16_t {};
enum class F8E4M3 : uint8_t {};
enum class F8E5M2 : uint8_t {};
struct Int4 {
  int8_t v;
};
struct UInt4 {
  uint8_t v;
};
struct Int2 {
  int8_t v;
};

inline float half_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000U) << 16;
  const uint32_t body = static_cast<uint32_t>(h & 0x7fffU) << 13;
  const uint32_t exponent = body & 0x0f800000U;
  const uint32_t normal = body + 0x38000000U;
  const uint32_t special = (normal + 0x38000000U) | ((body & 0x007fffffU) != 0 ? 0x00400000U : 0U);
  const uint32_t denormal = bits_of(float_of(body + 0x38800000U) - float_of(0x38800000U));
  return float_of(sign | (exponent == 0x0f800000U ? special : (exponent == 0 ? denormal : normal)));
}
inline uint16_t float_to_half(float x) {
  const uint32_t all = bits_of(x);
  const uint32_t u = all & 0x7fffffffU;
  const uint32_t sign = (all >> 16) & 0x8000U;
  const uint32_t special = u > 0x7f800000U ? (0x7e00U | ((u >> 13) & 0x3ffU)) : 0x7c00U;
  const uint32_t denormal = bits_of(float_of(u) + 0.5F) - 0x3f000000U;
  const uint32_t normal = (u + 0xc8000fffU + ((u >> 13) & 1U)) >> 13;
  return static_cast<uint16_t>(sign | (u >= 0x47800000U ? special : (u < 0x38800000U ? denormal : normal)));
}
inline float brain_to_float(uint16_t b) { return float_of(static_cast<uint32_t>(b) << 16); }
inline uint16_t float_to_brain(float x) {
  const uint32_t u = bits_of(x);
  const uint32_t rounded = (u + 0x7fffU + ((u >> 16) & 1U)) >> 16;
  return static_cast<uint16_t>((u & 0x7fffffffU) > 0x7f800000U ? ((u >> 16) | 0x40U) : rounded);
}
// The conversions of whole runs by the instructions for them; of a rest by the formulas, which give the same bits.
#if defined(__F16C__)
inline void widen_halves(void* out, const void* a, const void* /*b*/, const void* /*c*/, int64_t n) {
  float* r = static_cast<float*>(out);
  const uint16_t* x = static_cast<const uint16_t*>(a);
  int64_t i = 0;
#if defined(__AVX512F__)
  for (; i + 16 <= n; i += 16)
    _mm512_storeu_ps(r + i, _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i))));
#endif
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(r + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i))));
  for (; i < n; ++i) r[i] = half_to_float(x[i]);
}
inline void round_to_halves(void* out, const void* a, const void* /*b*/, const void* /*c*/, int64_t n) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  uint16_t* r = static_cast<uint16_t*>(out);
  const float* x = static_cast<const float*>(a);
  int64_t i = 0;
#if defined(__AVX512F__)
  for (; i + 16 <= n; i += 16)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(r + i),
                        _mm512_maskz_cvtps_ph(0xffff, _mm512_loadu_ps(x + i), kNearest));
#endif
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(r + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i), kNearest));
  for (; i < n; ++i) r[i] = float_to_half(x[i]);
}
#endif
// f64 to f32 with the lost bits kept as one odd bit, so that a second rounding to fewer bits is right.
inline float float_to_odd(double x) {
  const float nearest = static_cast<float>(x);
  const double back = nearest;
  const uint32_t u = bits_of(nearest);
  const uint32_t cut = __builtin_fabs(back) > __builtin_fabs(x) ? u - 1 : u;
  return (back == x || x != x) ? nearest : float_of(cut | 1U);
}

template <class T>
struct Limits {
  static constexpr int bits = 8 * sizeof(T);
  static constexpr T low = Kind<T>::is_signed ? static_cast<T>(uint64_t{1} << (bits - 1)) : T{0};
  static constexpr T high = static_cast<T>(~low);
};
template <class From, class To>
struct CastOp {
  static To f(From x) {
    if constexpr (kSame<From, To>) {
      return x;
    } else if constexpr (kSame<From, Half>) {
      return half_to_float(static_cast<uint16_t>(x));
    } else if constexpr (kSame<From, Brain>) {
      return brain_to_float(static_cast<uint16_t>(x));
    } else if constexpr (kSame<From, F8E4M3>) {
      return f8e4m3_to_f32(static_cast<uint8_t>(x));
    } else if constexpr (kSame<From, F8E5M2>) {
      return f8e5m2_to_f32(static_cast<uint8_t>(x));
    } else if constexpr (kSame<From, Int4> || kSame<From, UInt4> || kSame<From, Int2>) {
      return CastOp<decltype(x.v), To>::f(x.v);
    } else if constexpr (kSame<To, Half> || kSame<To, Brain> || kSame<To, F8E4M3> || kSame<To, F8E5M2>) {
      float single;
      if constexpr (kSame<From, double>)
        single = float_to_odd(x);
      else
        single = x;
      if constexpr (kSame<To, Half>)
        return static_cast<Half>(float_to_half(single));
      else if constexpr (kSame<To, Brain>)
        return static_cast<Brain>(float_to_brain(single));
      else if constexpr (kSame<To, F8E4M3>)
        return static_cast<F8E4M3>(f32_to_f8e4m3(single));
      else
        return static_cast<F8E5M2>(f32_to_f8e5m2(single));
    } else if constexpr (kSame<To, Int4>) {
      if constexpr (Kind<From>::is_float)
        return {clamped<int8_t>(x, -8, 7)};
      else
        return {static_cast<int8_t>(((static_cast<uint64_t>(x) & 15U) ^ 8U) - 8U)};
    } else if constexpr (kSame<To, UInt4>) {
      if constexpr (Kind<From>::is_float)
        return {clamped<uint8_t>(x, 0, 15)};
      else
        return {static_cast<uint8_t>(static_cast<uint64_t>(x) & 15U)};
    } else if constexpr (kSame<To, Int2>) {
      if constexpr (Kind<From>::is_float)
        return {clamped<int8_t>(x, -2, 1)};
      else
        return {static_cast<int8_t>(((static_cast<uint64_t>(x) & 3U) ^ 2U) - 2U)};
    } else if constexpr (kSame<To, Truth>) {
      return x != From{} ? Truth::yes : Truth::no;
    } else if constexpr (kSame<From, Truth>) {
      return static_cast<To>(static_cast<uint8_t>(x));
    } else if constexpr (Kind<From>::is_float && !Kind<To>::is_float) {
      // The bound above the largest number is a power of two: exact in every float.
      constexpr auto half = Limits<To>::high / 2 + 1;
      constexpr double high = static_cast<double>(half) * 2.0;
      constexpr double low = static_cast<double>(Limits<To>::low);
      const From inside = (x > static_cast<From>(low) && x < static_cast<From>(high)) ? x : From{0};
      const To cut = static_cast<To>(inside);
      return x >= static_cast<From>(high) ? Limits<To>::high : (x <= static_cast<From>(low) ? Limits<To>::low : cut);
    } else {
      return static_cast<To>(x);
    }
  }
  template <class Byte>
  static Byte clamped(From x, int low, int high) {
    const From above = x < static_cast<From>(low) ? static_cast<From>(low) : (x == x ? x : From{0});
    return static_cast<Byte>(above > static_cast<From>(high) ? static_cast<From>(high) : above);
  }
};

}  // namespace tenon::cpu::TENON_CPU_LEVEL
