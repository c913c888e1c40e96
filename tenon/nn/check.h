// Checks that layers share. The text names the layer, and its place in the model once the model's names are set.
#pragma once

#include <string>
#include <string_view>

#include "tenon/tensor/variable.h"

namespace tenon::nn {

// "Linear (blocks.0.fc)": a layer by the name of one of its Variables ("blocks.0.fc.weight").
std::string layer_label(std::string_view type, const Variable& variable);

// ValueError unless value >= low.
void require_at_least(std::string_view layer, std::string_view option, int64_t value, int64_t low);
// ShapeError unless `axis` of x has this extent. `shape` is the shape to write in the message: "[..., 784]".
void require_extent(const std::string& layer, const Tensor& x, int64_t axis, int64_t extent, std::string_view shape);
// ShapeError unless x has one of these ranks.
void require_rank(const std::string& layer, const Tensor& x, int64_t low, int64_t high, std::string_view shape);
// ValueError unless 0 <= p <= 1.
void require_probability(std::string_view layer, double p);

}  // namespace tenon::nn
