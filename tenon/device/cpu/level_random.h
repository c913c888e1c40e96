// Philox4x32-10 (Salmon et al., SC 2011), several blocks side by side: counters that follow each other differ in their
// first words only. Included by level_table.h, once for each CPU level.
#pragma once

#include <cstdint>

#include "tenon/device/cpu/level.h"

namespace tenon::cpu::TENON_CPU_LEVEL {

inline void random_words(uint32_t* out, uint64_t first, uint32_t k0, uint32_t k1) {
  constexpr int kSide = kRandomWords / 4;
  uint32_t x0[kSide], x1[kSide], x2[kSide], x3[kSide];
  for (int i = 0; i < kSide; ++i) {
    const uint64_t block = first + static_cast<uint64_t>(i);
    x0[i] = static_cast<uint32_t>(block);
    x1[i] = static_cast<uint32_t>(block >> 32);
    x2[i] = 0;
    x3[i] = 0;
  }
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < kSide; ++i) {
      const uint64_t a = uint64_t{0xD2511F53u} * x0[i];
      const uint64_t b = uint64_t{0xCD9E8D57u} * x2[i];
      x0[i] = static_cast<uint32_t>(b >> 32) ^ x1[i] ^ k0;
      x1[i] = static_cast<uint32_t>(b);
      x2[i] = static_cast<uint32_t>(a >> 32) ^ x3[i] ^ k1;
      x3[i] = static_cast<uint32_t>(a);
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int i = 0; i < kSide; ++i) {
    out[4 * i] = x0[i];
    out[4 * i + 1] = x1[i];
    out[4 * i + 2] = x2[i];
    out[4 * i + 3] = x3[i];
  }
}

}  // namespace tenon::cpu::TENON_CPU_LEVEL
