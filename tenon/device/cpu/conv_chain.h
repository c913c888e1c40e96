// Convolutions that follow each other, in strips of rows: what lies between two of them is kept in a ring of a few rows
// that stays in the second cache, where the whole would go through memory. Every element is computed as without a
// chain, so strips and threads do not show in the bits.
#pragma once

#include <span>

#include "tenon/device/cpu/direct_conv.h"

namespace tenon::cpu {

// Whether `next`, which reads the result of `conv` and is its only reader, gains by it.
bool gains_in_strips(const DirectConv& conv, const DirectConv& next);

struct ConvLink {
  const DirectConv& conv;
  std::span<const ConstView> operands;  // of its result's shape
};
// As each link's `run` on the result of the one before it; x is the first one's input, y the last one's result,
// channels side by side.
void run_in_strips(std::span<const ConvLink> links, const ConstView& x, const View& y, ThreadPool& pool);

}  // namespace tenon::cpu
