#include "tenon/device/cpu/bf16_blocks.h"

#include <cstdlib>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "tenon/device/cpu/amx.h"
#include "tenon/device/cpu/bf16_attention.h"
#include "tenon/device/cpu/level.h"

namespace tenon::cpu::bf16_blocks {
namespace {

bool detected() {
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
  constexpr unsigned kAvx512Bf16 = 1U << 5;
  unsigned a = 0, b = 0, c = 0, d = 0;
  return best_level() >= 4 && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & kAvx512Bf16) != 0;
#else
  return false;
#endif
}

bool level_is_named() {
  const char* wish = std::getenv("TENON_CPU_LEVEL");
  return wish != nullptr && *wish != '\0';
}

const Products& products() {
  static const Products& kProducts = amx::available() ? amx::bf16_products() : pair_products();
  return kProducts;
}

}  // namespace

bool available() {
  static const bool yes = !level_is_named() && detected();
  return yes;
}

bool rows_anywhere() { return products().rows_anywhere; }

Tiles::Tiles() {
  if (products().open != nullptr) products().open();
}
Tiles::~Tiles() {
  if (products().close != nullptr) products().close();
}

void block(const Left& left, const Right& right, float* sums, int64_t row, bool more) {
  products().block(left, right, sums, row, more);
}
void finished_block(const Left& left, const Right& right, const Finish& f, int64_t columns, void* y, int64_t y_row) {
  if (products().finished != nullptr) return products().finished(left, right, f, columns, y, y_row);
  alignas(64) float sums[kBlockSize];
  block(left, right, sums);
  finish(sums, f, left.rows, columns, y, y_row);
}
void few_scores(const uint16_t* rows, int64_t row, int64_t count, const uint16_t* queries, int64_t steps, float* s) {
  products().few_scores(rows, row, count, queries, steps, s);
}
void few_sums(const uint16_t* tiles, int64_t steps, const uint16_t* packed, int64_t blocks, float* out, bool more) {
  products().few_sums(tiles, steps, packed, blocks, out, more);
}

}  // namespace tenon::cpu::bf16_blocks
