// Are two answers the same? What shadow traffic and replays ask.
#pragma once

#include <string>
#include <vector>

#include "tenon/serve/value.h"

namespace tenon::serve {

// Floats a and b agree if |a - b| <= absolute + relative * |a|, both are NaN, or both are the same infinity. Everything
// else must be equal.
struct Tolerance {
  double relative = 1e-4;
  double absolute = 1e-5;
  bool operator==(const Tolerance&) const = default;
};

// Empty if `got` has the outputs of `expected` with the same types, shapes and values; else the first difference.
std::string difference(const std::vector<NamedValue>& expected, const std::vector<NamedValue>& got,
                       const Tolerance& tolerance);

}  // namespace tenon::serve
