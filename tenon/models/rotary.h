// Rotary position embedding (Su et al., arXiv 2104.09864) in the form of the Llama family: the two halves of a head's
// width are the coordinates that turn, by an angle that grows with the position.
#pragma once

#include <cstdint>
#include <vector>

#include "tenon/tensor/tensor.h"

namespace tenon::models {

struct RotaryOptions {
  std::int64_t head_width = 64;
  double theta = 10000;
  // Longer contexts than in training. Linear: every angle divided by `factor`. Llama3: only slow ones are.
  enum class Scaling : std::uint8_t { None, Linear, Llama3 } scaling = Scaling::None;
  double factor = 1, low_frequency_factor = 1, high_frequency_factor = 4;
  std::int64_t original_context = 8192;
};

class Rotary {
 public:
  explicit Rotary(const RotaryOptions& options);
  // x is [N, heads, length, head width]; its first position is number `start`.
  [[nodiscard]] Tensor operator()(const Tensor& x, std::int64_t start) const;

 private:
  std::vector<float> frequencies_;  // half the head's width of them
};

}  // namespace tenon::models
