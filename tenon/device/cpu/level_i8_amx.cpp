// 8-bit products on the tile registers of AMX. The compiler flags of this file are set in tenon/CMakeLists.txt.
#include "tenon/device/cpu/level_i8.h"

#if defined(__AMX_INT8__)
#define TENON_CPU_LEVEL amx
#include "tenon/device/cpu/level_i8_pack.h"
#include "tenon/device/cpu/level_i8_rescale.h"
#include "tenon/device/cpu/level_i8_taps.h"

namespace tenon::cpu::amx {
namespace {

constexpr int64_t kHalf = 16, kSide = 2 * kHalf, kDepth = 64, kStepBytes = kSide * kDepth;

// Step after step the rows, each with the step's elements side by side.
void pack_left(const I8Side& side, int64_t lines, int64_t k, std::byte* to) {
  for (int64_t step = 0; step < k; step += kDepth) {
    const int64_t here = k - step < kDepth ? k - step : kDepth;
    for (int64_t r = 0; r < kSide; ++r, to += kDepth) {
      const uint8_t* from = side.data + r * side.line + step * side.k;
      int64_t i = 0;
      if (r < lines && side.k == 1) {
        const __m512i row = _mm512_maskz_loadu_epi8(here == kDepth ? ~0ULL : (1ULL << here) - 1, from);
        _mm512_storeu_si512(to, row);
        continue;
      }
      for (; r < lines && i < here; ++i) to[i] = static_cast<std::byte>(from[i * side.k]);
      for (; i < kDepth; ++i) to[i] = std::byte{0};
    }
  }
}
// Step after step two halves of the columns, in units of four k.
void pack_right(const I8Side& side, int64_t lines, int64_t k, std::byte* to) {
  for (int64_t step = 0; step < k; step += kDepth) {
    for (int64_t c = 0; c < kSide; c += kHalf, to += kStepBytes / 2) {
      const int64_t there = lines - c < 0 ? 0 : lines - c < kHalf ? lines - c : kHalf;
      const I8Side part{side.data + c * side.line + step * side.k, side.line, side.k, side.is_signed};
      pack_bytes(part, there, kHalf, k - step, kDepth / 4, 0, reinterpret_cast<uint8_t*>(to));
    }
  }
}

void pack_unit(const I8Side& side, int64_t lines, int64_t k, std::byte* to) {
  pack_bytes(side, lines, lines, k < 4 ? k : 4, 1, 0, reinterpret_cast<uint8_t*>(to));
}

template <bool LeftSigned, bool RightSigned>
void block(const std::byte* left, const std::byte* right, int64_t steps, int32_t* sums, int64_t row) {
  const auto stride = static_cast<size_t>(row) * sizeof(int32_t);
  // Meanwhile the memory is asked for the next step.
  const auto soon = [](const std::byte* at) {
    for (int64_t line = 0; line < kHalf; ++line)
      _mm_prefetch(reinterpret_cast<const char*>(at) + line * kDepth, _MM_HINT_T0);
  };
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t s = 0; s < steps; ++s, left += kStepBytes, right += kStepBytes) {
    _tile_loadd(4, left, kDepth);
    _tile_loadd(5, left + kStepBytes / 2, kDepth);
    _tile_loadd(6, right, kDepth);
    _tile_loadd(7, right + kStepBytes / 2, kDepth);
    soon(right + kStepBytes);
    soon(right + kStepBytes + kStepBytes / 2);
    if constexpr (LeftSigned && RightSigned) {
      _tile_dpbssd(0, 4, 6);
      _tile_dpbssd(1, 4, 7);
      _tile_dpbssd(2, 5, 6);
      _tile_dpbssd(3, 5, 7);
    } else if constexpr (LeftSigned) {
      _tile_dpbsud(0, 4, 6);
      _tile_dpbsud(1, 4, 7);
      _tile_dpbsud(2, 5, 6);
      _tile_dpbsud(3, 5, 7);
    } else if constexpr (RightSigned) {
      _tile_dpbusd(0, 4, 6);
      _tile_dpbusd(1, 4, 7);
      _tile_dpbusd(2, 5, 6);
      _tile_dpbusd(3, 5, 7);
    } else {
      _tile_dpbuud(0, 4, 6);
      _tile_dpbuud(1, 4, 7);
      _tile_dpbuud(2, 5, 6);
      _tile_dpbuud(3, 5, 7);
    }
  }
  _tile_stored(0, sums, stride);
  _tile_stored(1, sums + kHalf, stride);
  _tile_stored(2, sums + kHalf * row, stride);
  _tile_stored(3, sums + kHalf * row + kHalf, stride);
}

}  // namespace

const I8Loops& i8_loops() {
  static constexpr I8Loops kLoops{
      .name = "amx",
      .rows = kSide,
      .columns = kSide,
      .depth = kDepth,
      .element = 1,
      .piece = kHalf,
      .shifted = false,
      .tiles = true,
      .pack_left = pack_left,
      .pack_right = pack_right,
      .pack_unit = pack_unit,
      .block = {{block<false, false>, block<false, true>}, {block<true, false>, block<true, true>}},
      .turned = nullptr,
      .move = move,
      .gather = gather,
      .rescale = rescale,
      .taps = taps,
      .add_products = {add_products<uint8_t>, add_products<int8_t>}};
  return kLoops;
}

}  // namespace tenon::cpu::amx
#endif
