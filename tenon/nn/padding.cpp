#include "tenon/nn/padding.h"

#include <fmt/format.h>

#include "tenon/base/error.h"
#include "tenon/nn/check.h"

namespace tenon::nn::detail {

Sides sides(const char* layer, const Tensor& x, const Ints& padding, size_t axes) {
  if (padding.size() != 1 && padding.size() != 2 * axes)
    throw ValueError({layer,
                      "the padding does not name every side",
                      fmt::format("1 or {} numbers", 2 * axes),
                      std::to_string(padding.size()),
                      {}});
  require_rank(layer, x, static_cast<int64_t>(axes), 64, "[..., spatial...]");
  const auto rank = static_cast<size_t>(x.ndim());
  Sides s{Ints(rank, 0), Ints(rank, 0)};
  for (size_t i = 0; i < axes; ++i) {
    s.before[rank - 1 - i] = padding.size() == 1 ? padding[0] : padding[2 * i];
    s.after[rank - 1 - i] = padding.size() == 1 ? padding[0] : padding[2 * i + 1];
  }
  return s;
}

}  // namespace tenon::nn::detail
