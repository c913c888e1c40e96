#include "tenon/nn/check.h"

#include <fmt/format.h>

#include "tenon/base/error.h"

namespace tenon::nn {

std::string layer_label(std::string_view type, const Variable& variable) {
  if (!variable.defined()) return std::string(type);
  const std::string& name = variable.name();
  const size_t dot = name.rfind('.');
  if (dot == std::string::npos) return std::string(type);
  return fmt::format("{} ({})", type, name.substr(0, dot));
}

void require_at_least(std::string_view layer, std::string_view option, int64_t value, int64_t low) {
  if (value >= low) return;
  throw ValueError({std::string(layer), fmt::format("{} is too small", option), fmt::format("{} or more", low),
                    fmt::format("{}", value), ""});
}

void require_extent(const std::string& layer, const Tensor& x, int64_t axis, int64_t extent, std::string_view shape) {
  const int64_t rank = x.ndim();
  const int64_t place = axis < 0 ? axis + rank : axis;
  if (place >= 0 && place < rank && x.shape()[static_cast<size_t>(place)] == extent) return;
  std::string hint;
  if (axis == -1 && rank > 2 && x.size() == x.shape()[0] * extent) {
    hint = "flatten first: nn::Flatten(), or reshape(x, {x.shape(0), -1})";
  }
  throw ShapeError({layer, "the input does not fit the layer", std::string(shape), to_string(x.shape()), hint});
}

void require_rank(const std::string& layer, const Tensor& x, int64_t low, int64_t high, std::string_view shape) {
  if (x.ndim() >= low && x.ndim() <= high) return;
  throw ShapeError({layer, "the input has the wrong number of axes", std::string(shape), to_string(x.shape()),
                    x.ndim() == low - 1 ? "unsqueeze(x, {0}) makes a batch of one" : ""});
}

void require_probability(std::string_view layer, double p) {
  if (p >= 0 && p <= 1) return;
  throw ValueError({std::string(layer), "the probability is out of range", "0 to 1", fmt::format("{}", p), ""});
}

}  // namespace tenon::nn
