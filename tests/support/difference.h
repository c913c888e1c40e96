// How far results are from what is expected. A NaN that was not expected is infinitely far: std::max alone would pass
// it over.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tenon/tensor/tensor.h"

namespace tenon::testing_support {

inline double apart(double got, double want) {
  if (got == want || (std::isnan(got) && std::isnan(want))) return 0;
  const double difference = std::abs(got - want);
  return std::isfinite(difference) ? difference : std::numeric_limits<double>::infinity();
}

// The largest of them; infinity if there are not as many.
inline double largest_difference(const std::vector<double>& got, const std::vector<double>& want) {
  if (got.size() != want.size()) return std::numeric_limits<double>::infinity();
  double most = 0;
  for (std::size_t i = 0; i < got.size(); ++i) most = std::max(most, apart(got[i], want[i]));
  return most;
}
inline double largest_difference(const Tensor& got, const Tensor& want) {
  return largest_difference(got.to_vector<double>(), want.to_vector<double>());
}

}  // namespace tenon::testing_support
