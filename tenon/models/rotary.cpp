#include "tenon/models/rotary.h"

#include <cmath>
#include <numbers>

#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"

namespace tenon::models {

Rotary::Rotary(const RotaryOptions& options) {
  for (std::int64_t i = 0; i < options.head_width; i += 2) {
    double frequency = 1 / std::pow(options.theta, static_cast<double>(i) / static_cast<double>(options.head_width));
    if (options.scaling == RotaryOptions::Scaling::Linear) {
      frequency /= options.factor;
    } else if (options.scaling == RotaryOptions::Scaling::Llama3) {
      const double context = static_cast<double>(options.original_context);
      const double wavelength = 2 * std::numbers::pi / frequency;
      if (wavelength > context / options.low_frequency_factor) {
        frequency /= options.factor;
      } else if (wavelength >= context / options.high_frequency_factor) {
        const double share = (context / wavelength - options.low_frequency_factor) /
                             (options.high_frequency_factor - options.low_frequency_factor);
        frequency = (1 - share) * frequency / options.factor + share * frequency;
      }
    }
    frequencies_.push_back(static_cast<float>(frequency));
  }
}

Tensor Rotary::operator()(const Tensor& x, std::int64_t start) const {
  const auto half = static_cast<std::int64_t>(frequencies_.size());
  const Tensor positions = cast(arange(start, start + x.shape(2)), DType::F32);
  const Tensor angles = unsqueeze(positions, {1}) * unsqueeze(from_vector(frequencies_, {half}), {0});
  const Tensor c = cos(angles), s = sin(angles);
  const Tensor first = narrow(x, 3, 0, half), second = narrow(x, 3, half, half);
  return concat({first * c - second * s, second * c + first * s}, 3);
}

}  // namespace tenon::models
