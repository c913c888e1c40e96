// How loops over memory are cut.
#pragma once

#include <cstdint>

namespace tenon::cpu {

constexpr int64_t kLine = 16;  // floats in a line of a cache
constexpr auto kFloat = static_cast<int64_t>(sizeof(float));

// How many parts of at most `most` make x, and one at least. Divisions only where there is something to divide: small
// products are frequent.
constexpr int64_t parts_of(int64_t x, int64_t most) { return x <= most ? 1 : (x + most - 1) / most; }
// Into how many parts threads cut work that is worth so many, and consists of so many units: as many for each thread,
// because three parts on two threads take as long as four.
constexpr int64_t parts_for(int64_t threads, int64_t worth, int64_t units) {
  int64_t parts = threads;
  while (threads > 1 && parts < worth && parts < 4 * threads) parts *= 2;
  return parts < units ? parts : units;
}
constexpr int64_t rounded_up(int64_t x, int64_t to) { return x % to == 0 ? x : x + to - x % to; }

}  // namespace tenon::cpu
