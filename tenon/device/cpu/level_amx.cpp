// Products of bf16 blocks (bf16_blocks.h) in the tile registers of AMX. The compiler flags of this file are set in
// tenon/CMakeLists.txt.
#include "tenon/device/cpu/amx.h"

#if defined(__AMX_BF16__)
#include <immintrin.h>

#include "tenon/device/cpu/bf16_attention.h"

namespace tenon::cpu::amx {
namespace {

using bf16_blocks::kDepth;
using bf16_blocks::kFew;
using bf16_blocks::kSide;
using bf16_blocks::kStepSize;
using bf16_blocks::Left;
using bf16_blocks::Right;

constexpr int kRow = 64;  // bytes of a row of a tile register
constexpr int kHalf = 16;

struct alignas(64) Configuration {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};
// All eight registers at their full size. In static memory, because compilers do not know how much of it
// _tile_loadconfig reads, and leave out writes to a local one.
constexpr Configuration kFullTiles = [] {
  Configuration c;
  for (int i = 0; i < 8; ++i) {
    c.bytes[i] = kRow;
    c.rows[i] = kHalf;
  }
  return c;
}();

void open() { _tile_loadconfig(&kFullTiles); }
void close() { _tile_release(); }

void tile_block(const Left& left, const Right& columns, float* sums, int64_t row, bool more) {
  const auto left_stride = static_cast<size_t>(left.row) * sizeof(uint16_t);
  const auto stride = static_cast<size_t>(row) * sizeof(float);
  if (more) {
    _tile_loadd(0, sums, stride);
    _tile_loadd(1, sums + kHalf, stride);
    _tile_loadd(2, sums + kHalf * row, stride);
    _tile_loadd(3, sums + kHalf * row + kHalf, stride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  // Meanwhile the memory is asked for the next step.
  const auto soon = [](const uint16_t* at) {
    for (int line = 0; line < kHalf; ++line) _mm_prefetch(reinterpret_cast<const char*>(at) + line * kRow, _MM_HINT_T0);
  };
  const uint16_t* right = columns.at;
  for (int64_t s = 0; s < columns.steps; ++s, right += kStepSize) {
    const uint16_t* at = left.at + (left.steps != nullptr ? left.steps[s] : s * left.step);
    _tile_loadd(4, at, left_stride);
    _tile_loadd(6, right, kRow);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, right + kStepSize / 2, kRow);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, at + kHalf * left.row, left_stride);
    soon(right + kStepSize);
    _tile_dpbf16ps(2, 5, 6);
    soon(right + kStepSize + kStepSize / 2);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums, stride);
  _tile_stored(1, sums + kHalf, stride);
  _tile_stored(2, sums + kHalf * row, stride);
  _tile_stored(3, sums + kHalf * row + kHalf, stride);
}

// Tiles 0 to Count - 1: this many times kFew rows of the left side.
template <int Count>
[[gnu::always_inline]] inline void few_rows(const uint16_t* rows, int64_t row, const uint16_t* queries, int64_t steps,
                                            float* s) {
  const auto stride = static_cast<size_t>(row) * sizeof(uint16_t);
  constexpr size_t kScores = kFew * sizeof(float);
  const int64_t below = kFew * row;
  _tile_zero(0);
  if constexpr (Count > 1) {
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t i = 0; i < steps; ++i, rows += kDepth, queries += kStepSize) {
    _tile_loadd(4, queries, kRow);
    _tile_loadd(5, rows, stride);
    _tile_dpbf16ps(0, 5, 4);
    if constexpr (Count > 1) {
      _tile_loadd(6, rows + below, stride);
      _tile_dpbf16ps(1, 6, 4);
      _tile_loadd(7, rows + 2 * below, stride);
      _tile_dpbf16ps(2, 7, 4);
      _tile_loadd(5, rows + 3 * below, stride);
      _tile_dpbf16ps(3, 5, 4);
    }
  }
  _tile_stored(0, s, kScores);
  if constexpr (Count > 1) {
    _tile_stored(1, s + kFew * kFew, kScores);
    _tile_stored(2, s + 2 * kFew * kFew, kScores);
    _tile_stored(3, s + 3 * kFew * kFew, kScores);
  }
}

void tile_scores(const uint16_t* rows, int64_t row, int64_t count, const uint16_t* queries, int64_t steps, float* s) {
  int64_t r = 0;
  for (; r + 4 * kFew <= count; r += 4 * kFew) few_rows<4>(rows + r * row, row, queries, steps, s + r * kFew);
  for (; r < count; r += kFew) few_rows<1>(rows + r * row, row, queries, steps, s + r * kFew);
}

// Two blocks of columns, or one: a chain of products waits for itself, so there are four.
template <bool Two>
[[gnu::always_inline]] inline void few_blocks(const uint16_t* tiles, int64_t steps, const uint16_t* packed, float* out,
                                              size_t stride, bool more) {
  const uint16_t* second = packed + steps * kStepSize;
  if (more) {
    _tile_loadd(0, out, stride);
    _tile_loadd(1, out + kFew, stride);
    if constexpr (Two) {
      _tile_loadd(2, out + kSide, stride);
      _tile_loadd(3, out + kSide + kFew, stride);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t s = 0; s < steps; ++s, tiles += kFew * kDepth, packed += kStepSize, second += kStepSize) {
    _tile_loadd(4, tiles, kRow);
    _tile_loadd(5, packed, kRow);
    _tile_dpbf16ps(0, 4, 5);
    _tile_loadd(6, packed + kStepSize / 2, kRow);
    _tile_dpbf16ps(1, 4, 6);
    if constexpr (Two) {
      _tile_loadd(7, second, kRow);
      _tile_dpbf16ps(2, 4, 7);
      _tile_loadd(5, second + kStepSize / 2, kRow);
      _tile_dpbf16ps(3, 4, 5);
    }
  }
  _tile_stored(0, out, stride);
  _tile_stored(1, out + kFew, stride);
  if constexpr (Two) {
    _tile_stored(2, out + kSide, stride);
    _tile_stored(3, out + kSide + kFew, stride);
  }
}

void tile_sums(const uint16_t* tiles, int64_t steps, const uint16_t* packed, int64_t blocks, float* out, bool more) {
  const auto stride = static_cast<size_t>(blocks * kSide) * sizeof(float);
  int64_t b = 0;
  for (; b + 2 <= blocks; b += 2, packed += 2 * steps * kStepSize)
    few_blocks<true>(tiles, steps, packed, out + b * kSide, stride, more);
  if (b < blocks) few_blocks<false>(tiles, steps, packed, out + b * kSide, stride, more);
}

}  // namespace

Tiles::Tiles() { open(); }
Tiles::~Tiles() { close(); }

const bf16_blocks::Products& bf16_products() {
  static constexpr bf16_blocks::Products kProducts{false, open, close, tile_block, nullptr, tile_scores, tile_sums};
  return kProducts;
}

}  // namespace tenon::cpu::amx
#else
// A compiler or a CPU family without it: available() says so, and nobody calls these.
namespace tenon::cpu::amx {
Tiles::Tiles() = default;
Tiles::~Tiles() = default;
const bf16_blocks::Products& bf16_products() { return bf16_blocks::pair_products(); }
}  // namespace tenon::cpu::amx
#endif
