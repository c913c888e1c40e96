// How loops over memory are cut.
#pragma once

#include <cstdint>

namespace tenon::cpu {

constexpr int64_t kLine = 16;  // floats in a line of a cache
constexpr auto kFloat = static_cast<int64_t>(sizeof(float));

// How many parts of at most `most` make x, and one at least. Divisions only where there is something to divide: small
// products are frequent.
constexpr int64_t parts_of(int64_t x, int64_t most) { return x <= most ? 1 : (x + most - 1) / most; }
constexpr int64_t rounded_up(int64_t x, int64_t to) { return x % to == 0 ? x : x + to - x % to; }

}  // namespace tenon::cpu
