// Sequential: layers one after the other. State-dict keys are their positions: "0.weight", "2.bias".
#pragma once

#include <tuple>
#include <utility>
#include <vector>

#include "tenon/nn/members.h"
#include "tenon/tensor/tensor.h"

namespace tenon::nn {

// Each layer is anything that can be called with a Tensor and gives one: a layer, a struct, a function.
//   auto model = nn::Sequential(nn::Flatten(), nn::Linear(784, 10));
template <class... Layers>
class Sequential {
 public:
  explicit Sequential(Layers... parts) : layers{std::tuple<Layers...>(std::move(parts)...)} {}
  [[nodiscard]] Tensor operator()(Tensor x) const {
    std::apply([&x](const auto&... layer) { ((x = layer(std::move(x))), ...); }, layers.value);
    return x;
  }
  // The layer at a position: model.get<2>().
  template <size_t I>
  [[nodiscard]] auto& get() {
    return std::get<I>(layers.value);
  }
  template <size_t I>
  [[nodiscard]] const auto& get() const {
    return std::get<I>(layers.value);
  }

  Inline<std::tuple<Layers...>> layers;
  using Members = nn::Members<&Sequential::layers>;
};

// A list of equal layers is a std::vector; the name is there for those who look for it.
template <class Layer>
using ModuleList = std::vector<Layer>;

}  // namespace tenon::nn
