// The loops of bf16_attention.h. The compiler flags of this file are set in tenon/CMakeLists.txt.
#include "tenon/device/cpu/bf16_attention.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>

#define TENON_CPU_LEVEL bf16_blocks
#include "tenon/device/cpu/level_tile.h"

namespace tenon::cpu::bf16_blocks {
namespace {

using V = Lanes::V;
constexpr int kLanes = Lanes::kCount;
constexpr int kGroups = kPanel / kLanes;  // of columns
constexpr float kMinusInfinity = -__builtin_inff();

// 2^t. (Masks of all here and below, because g++ 12 calls what the plain functions leave out uninitialised.)
[[gnu::always_inline]] inline V power_of_two(V t) {
  const __mmask16 there = _mm512_cmp_ps_mask(t, Lanes::number(-126.0F), _CMP_NLT_UQ);        // also for a NaN
  const V x = _mm512_maskz_reduce_ps(0xffff, t, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // t - floor(t)
  V y = Lanes::fma(Lanes::number(0x1.e97516p-10F), x, Lanes::number(0x1.27784ep-7F));
  y = Lanes::fma(y, x, Lanes::number(0x1.c91ce8p-5F));
  y = Lanes::fma(y, x, Lanes::number(0x1.ebdb56p-3F));
  y = Lanes::fma(y, x, Lanes::number(0x1.62e4bap-1F));
  y = Lanes::fma(y, x, Lanes::number(1.0F));
  return _mm512_maskz_scalef_ps(there, y, t);
}
[[gnu::always_inline]] inline V fused_minus(V a, V b, V c) { return _mm512_fmsub_ps(a, b, c); }
[[gnu::always_inline]] inline V larger_of(V a, V b) { return _mm512_mask_max_ps(a, 0xffff, a, b); }  // a NaN in a: b

// Both rounded, `low` in the first half.
[[gnu::always_inline]] inline __m512i rounded(V low, V high) {
  const __m512bh bits = _mm512_cvtne2ps_pbh(high, low);
  return reinterpret_cast<const __m512i&>(bits);
}
struct Woven {
  int16_t at[2 * kLanes];
};
constexpr Woven kWoven = [] {
  Woven w{};
  for (int i = 0; i < kLanes; ++i) {
    w.at[2 * i] = static_cast<int16_t>(i);
    w.at[2 * i + 1] = static_cast<int16_t>(kLanes + i);
  }
  return w;
}();
// Where a packed right side of `rows` k has the pair of this row, of a group of columns.
[[gnu::always_inline]] inline uint16_t* pair_of(uint16_t* packed, int64_t rows, int64_t row, int group) {
  return packed + group / 2 * packed_size(rows) + row / kDepth * kStepSize + group % 2 * (kStepSize / 2) +
         row % kDepth * kLanes;
}

constexpr int kTogether = 4;  // rows whose exponentials stand side by side

}  // namespace

void scale_scores(const Scaling& a) {
  const V scale = Lanes::number(a.scale);
  for (int64_t r = 0; r < a.rows; ++r) {
    float* s = a.s + r * a.panel;
    const float* m = a.mask == nullptr ? nullptr : a.by_row ? a.mask + r : a.mask + r * a.panel;
    for (int64_t c = 0; c < a.panel; c += kLanes) {
      const V x = Lanes::load(s + c);
      if (m == nullptr)
        Lanes::store(s + c, Lanes::multiply(x, scale));
      else
        Lanes::store(s + c, Lanes::fma(x, scale, a.by_row ? Lanes::splat(m) : Lanes::load(m + c)));
    }
  }
}

void hide_scores(float* s, int64_t rows, int64_t panel, int64_t hidden) {
  const V nothing = Lanes::number(kMinusInfinity);
  for (int64_t r = 0; r < rows; ++r, ++hidden) {
    for (int64_t c = 0; c < panel && c < hidden; c += kLanes) {
      const int64_t count = hidden - c;
      Lanes::store(s + r * panel + c, nothing, Lanes::part(count < kLanes ? static_cast<int>(count) : kLanes));
    }
  }
}

namespace {

// A step of the running softmax of kLanes queries (M. Milakov and N. Gimelshein, Online normalizer calculation for
// softmax, 2018). Their scores are rows, one for each key, that lie
// `pitch` apart.
struct RunningSoftmax {
  V factor;
  V shift;  // the largest score so far; zero where nothing may be seen so far
  V fit;    // what sums and results of earlier steps are multiplied by
  V sum[2] = {Lanes::zero(), Lanes::zero()};

  // most_so_far: of earlier steps, and then of this one too.
  [[gnu::always_inline]] RunningSoftmax(const float* s, int64_t rows, int64_t pitch, float by, float* most_so_far)
      : factor(Lanes::number(by)) {
    const V nothing = Lanes::number(kMinusInfinity);
    V top[kTogether];
#pragma GCC unroll 4
    for (V& one : top) one = nothing;
    for (int64_t r = 0; r < rows; r += kTogether) {
#pragma GCC unroll 4
      for (int i = 0; i < kTogether; ++i) top[i] = larger_of(Lanes::load(s + (r + i) * pitch), top[i]);
    }
    const V seen = larger_of(larger_of(top[0], top[1]), larger_of(top[2], top[3]));
    const V before = Lanes::load(most_so_far), most = larger_of(Lanes::multiply(seen, factor), before);
    Lanes::store(most_so_far, most);
    shift = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(most, nothing, _CMP_NEQ_UQ), most);
    fit = power_of_two(Lanes::subtract(before, shift));
  }
  [[nodiscard, gnu::always_inline]] V exponential(const float* s) const {
    return power_of_two(fused_minus(Lanes::load(s), factor, shift));
  }
  // Of two keys, rounded.
  [[gnu::always_inline]] __m512i take(V even, V odd) {
    sum[0] = Lanes::add(sum[0], even);
    sum[1] = Lanes::add(sum[1], odd);
    return rounded(even, odd);
  }
  void add_to(float* total) const {
    Lanes::store(total, Lanes::fma(Lanes::load(total), fit, Lanes::add(sum[0], sum[1])));
  }
  [[nodiscard]] bool fits() const { return Lanes::differ(fit, Lanes::number(1.0F)) == 0; }
};

// Two rows of halves, `pitch` apart.
[[gnu::always_inline]] inline void store_rows(uint16_t* to, int64_t pitch, __m512i rows) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<const __m256i&>(rows));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + pitch), _mm512_maskz_extracti64x4_epi64(0xf, rows, 1));
}

}  // namespace

void softmax(const Softmax& a) {
  const __m512i weave = _mm512_loadu_si512(kWoven.at);
  for (int group = 0; group < kGroups; ++group) {
    const float* s = a.s + group * kLanes;
    RunningSoftmax run(s, a.rows, kPanel, a.factor, a.most + group * kLanes);
    for (int64_t r = 0; r < a.rows; r += kTogether) {
      V e[kTogether];
#pragma GCC unroll 4
      for (int i = 0; i < kTogether; ++i) e[i] = run.exponential(s + (r + i) * kPanel);
#pragma GCC unroll 2
      for (int i = 0; i < kTogether; i += 2)
        _mm512_storeu_si512(pair_of(a.packed, a.rows, r + i, group),
                            _mm512_maskz_permutexvar_epi16(~0U, weave, run.take(e[i], e[i + 1])));
    }
    run.add_to(a.sum + group * kLanes);
    if (run.fits()) continue;
    for (int64_t r = 0; r < a.out_rows; ++r) {
      float* out = a.out + r * kPanel + group * kLanes;
      Lanes::store(out, Lanes::multiply(Lanes::load(out), run.fit));
    }
  }
}

void slopes(const Slopes& a) {
  const V factor = Lanes::number(a.factor), scale = Lanes::number(a.scale);
  const __m512i weave = _mm512_loadu_si512(kWoven.at);
  for (int group = 0; group < kGroups; ++group) {
    const int64_t column = group * kLanes;
    const V shift = Lanes::load(a.shift + column), inner = Lanes::load(a.inner + column);
    for (int64_t r = 0; r < a.rows; r += kTogether) {
      V e[kTogether], d[kTogether];
#pragma GCC unroll 4
      for (int i = 0; i < kTogether; ++i) {
        const int64_t at = (r + i) * kPanel + column;
        e[i] = power_of_two(fused_minus(Lanes::load(a.s + at), factor, shift));
        d[i] = Lanes::multiply(Lanes::multiply(e[i], scale), Lanes::subtract(Lanes::load(a.into + at), inner));
      }
#pragma GCC unroll 2
      for (int i = 0; i < kTogether; i += 2) {
        const int64_t at = (r + i) * kPanel + column;
        store_rows(a.probabilities + at, kPanel, rounded(e[i], e[i + 1]));
        const __m512i both = rounded(d[i], d[i + 1]);
        store_rows(a.slopes + at, kPanel, both);
        _mm512_storeu_si512(pair_of(a.packed, a.rows, r + i, group), _mm512_maskz_permutexvar_epi16(~0U, weave, both));
      }
    }
  }
}

namespace {

// kFew numbers of each of 16 pairs of rows, turned: a tile of the left side.
[[gnu::always_inline]] inline void store_tile(__m512i (&pairs)[kLanes], uint16_t* to) {
  V v[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) v[i] = _mm512_castsi512_ps(pairs[i]);
  Lanes::transpose(v);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) _mm512_storeu_ps(to + i * kDepth, v[i]);
}

}  // namespace

void softmax(const FewSoftmax& a) {
  const __m512i weave = _mm512_loadu_si512(kWoven.at);
  RunningSoftmax run(a.s, a.rows, kFew, a.factor, a.most);
  for (int64_t r = 0; r < a.rows; r += kDepth) {
    __m512i pairs[kLanes];
    const float* s = a.s + r * kFew;
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      const V even = run.exponential(s + 2 * i * kFew), odd = run.exponential(s + (2 * i + 1) * kFew);
      pairs[i] = _mm512_maskz_permutexvar_epi16(~0U, weave, run.take(even, odd));
    }
    store_tile(pairs, a.tiles + r * kFew);
  }
  run.add_to(a.sum);
  if (a.out_columns == 0 || run.fits()) return;
  alignas(64) float fits[kFew];
  Lanes::store(fits, run.fit);
  for (int64_t q = 0; q < kFew; ++q) {
    const V by = Lanes::number(fits[q]);
    float* out = a.out + q * a.out_columns;
    for (int64_t c = 0; c < a.out_columns; c += kLanes)
      Lanes::store(out + c, Lanes::multiply(Lanes::load(out + c), by));
  }
}

void slopes(const FewSlopes& a) {
  const V factor = Lanes::number(a.factor), scale = Lanes::number(a.scale);
  const V shift = Lanes::load(a.shift), inner = Lanes::load(a.inner);
  const __m512i weave = _mm512_loadu_si512(kWoven.at);
  for (int64_t r = 0; r < a.rows; r += kDepth) {
    __m512i pairs[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      V e[2], d[2];
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const int64_t at = (r + 2 * i + half) * kFew;
        e[half] = power_of_two(fused_minus(Lanes::load(a.s + at), factor, shift));
        d[half] = Lanes::multiply(Lanes::multiply(e[half], scale), Lanes::subtract(Lanes::load(a.into + at), inner));
      }
      store_rows(a.probabilities + (r + 2 * i) * kSide, kSide, rounded(e[0], e[1]));
      const __m512i both = rounded(d[0], d[1]);
      store_rows(a.slopes + (r + 2 * i) * kSide, kSide, both);
      pairs[i] = _mm512_maskz_permutexvar_epi16(~0U, weave, both);
    }
    store_tile(pairs, a.tiles + r * kFew);
  }
}

void scale_and_round(const float* from, int64_t from_row, int64_t rows, int64_t n, const float* factor, uint16_t* y) {
  for (int64_t r = 0; r < rows; ++r, from += from_row, y += n) {
    const V by = Lanes::number(factor[r]);
    for (int64_t c = 0; c < n; c += kLanes) {
      const V v = Lanes::multiply(Lanes::load(from + c), by);
      const __m512i bits = rounded(v, v);
      const auto part = static_cast<__mmask16>(n - c >= kLanes ? 0xffff : (1U << (n - c)) - 1);
      _mm256_mask_storeu_epi16(y + c, part, reinterpret_cast<const __m256i&>(bits));
    }
  }
}

void row_products(const uint16_t* a, int64_t a_row, const uint16_t* b, int64_t b_row, int64_t rows, int64_t n,
                  float* to) {
  for (int64_t r = 0; r < rows; r += kLanes) {
    const int64_t count = rows - r < kLanes ? rows - r : kLanes;
    V sum[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) {
      sum[i] = Lanes::zero();
      for (int64_t c = 0; i < count && c < n; c += 2 * kLanes) {
        const __mmask32 part = n - c >= 2 * kLanes ? ~0U : (1U << (n - c)) - 1;
        const __m512i x = _mm512_maskz_loadu_epi16(part, a + (r + i) * a_row + c),
                      y = _mm512_maskz_loadu_epi16(part, b + (r + i) * b_row + c);
        sum[i] = _mm512_dpbf16_ps(sum[i], reinterpret_cast<const __m512bh&>(x), reinterpret_cast<const __m512bh&>(y));
      }
    }
    Lanes::transpose(sum);
#pragma GCC unroll 4
    for (int width = kLanes / 2; width > 0; width /= 2) {
#pragma GCC unroll 8
      for (int i = 0; i < width; ++i) sum[i] = Lanes::add(sum[i], sum[i + width]);
    }
    Lanes::store(to + r, sum[0], Lanes::part(static_cast<int>(count)));
  }
}

void sum_of_rows(const float* factor, const uint16_t* a, int64_t a_row, int64_t rows, int64_t n, float* to) {
  constexpr int kSideBySide = 4;
  for (int64_t c = 0; c < n; c += kSideBySide * kLanes) {
    __mmask16 part[kSideBySide];
    V sum[kSideBySide];
#pragma GCC unroll 4
    for (int i = 0; i < kSideBySide; ++i) {
      const int64_t count = n - c - i * kLanes;
      part[i] = Lanes::part(count >= kLanes ? kLanes : count > 0 ? static_cast<int>(count) : 0);
      sum[i] = Lanes::zero();
    }
    for (int64_t r = 0; r < rows; ++r) {
      const V by = Lanes::splat(factor + r);
#pragma GCC unroll 4
      for (int i = 0; i < kSideBySide; ++i) {
        const __m256i bits = _mm256_maskz_loadu_epi16(part[i], a + r * a_row + c + i * kLanes);
        const V x =
            _mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xffff, _mm512_maskz_cvtepu16_epi32(0xffff, bits), kLanes));
        sum[i] = Lanes::fma(by, x, sum[i]);
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < kSideBySide; ++i) Lanes::store(to + c + i * kLanes, sum[i], part[i]);
  }
}

void turn_and_round(const float* from, int64_t rows, int64_t columns, const float* factor, uint16_t* y, int64_t y_row) {
  for (int64_t c = 0; c < columns; c += kLanes) {
    const V by = Lanes::load(factor + c);
    const int64_t count = columns - c < kLanes ? columns - c : kLanes;
    for (int64_t r = 0; r < rows; r += kLanes) {
      V v[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) v[i] = Lanes::multiply(Lanes::load(from + (r + i) * kPanel + c), by);
      Lanes::transpose(v);
      const auto part = static_cast<__mmask16>(rows - r >= kLanes ? 0xffff : (1U << (rows - r)) - 1);
      alignas(64) uint16_t turned[kLanes][2 * kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) _mm512_store_si512(turned[i], rounded(v[i], v[i]));
      for (int64_t i = 0; i < count; ++i)
        _mm256_mask_storeu_epi16(y + (c + i) * y_row + r, part,
                                 _mm256_load_si256(reinterpret_cast<const __m256i*>(turned[i])));
    }
  }
}

}  // namespace tenon::cpu::bf16_blocks
#else
// A compiler or a CPU family without it: available() says so, and nobody calls these.
namespace tenon::cpu::bf16_blocks {
void scale_scores(const Scaling&) {}
void hide_scores(float*, int64_t, int64_t, int64_t) {}
void softmax(const Softmax&) {}
void slopes(const Slopes&) {}
void softmax(const FewSoftmax&) {}
void slopes(const FewSlopes&) {}
void scale_and_round(const float*, int64_t, int64_t, int64_t, const float*, uint16_t*) {}
void row_products(const uint16_t*, int64_t, const uint16_t*, int64_t, int64_t, int64_t, float*) {}
void sum_of_rows(const float*, const uint16_t*, int64_t, int64_t, int64_t, float*) {}
void turn_and_round(const float*, int64_t, int64_t, const float*, uint16_t*, int64_t) {}
}  // namespace tenon::cpu::bf16_blocks
#endif
