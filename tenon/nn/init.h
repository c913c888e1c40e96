// Initial values of weights, as functions from a shape to a tensor:
//
//   layer.weight.set(nn::init::normal(layer.weight.shape(), 0, 0.02));
//
// Random values come from the default generator (tenon::manual_seed). Fans are PyTorch's: the weight of a layer is
// [out, in, kernel...]; fan-in is in * kernel elements, fan-out is out * kernel elements.
#pragma once

#include <cstdint>
#include <string_view>

#include "tenon/tensor/tensor.h"

namespace tenon::nn::init {

// While one is in force on this thread, the functions below give one zero for all elements, which takes no memory and
// no time: for a model whose weights are loaded right after it is made.
class WithoutValues {
 public:
  WithoutValues();
  ~WithoutValues();
  WithoutValues(const WithoutValues&) = delete;
  WithoutValues& operator=(const WithoutValues&) = delete;
};

Tensor constant(const Shape& shape, double value, DType dtype = DType::F32);
Tensor zeros(const Shape& shape, DType dtype = DType::F32);
Tensor ones(const Shape& shape, DType dtype = DType::F32);
// Ones on the diagonal of a matrix.
Tensor eye(const Shape& shape, DType dtype = DType::F32);
Tensor uniform(const Shape& shape, double low = 0, double high = 1, DType dtype = DType::F32);
Tensor normal(const Shape& shape, double mean = 0, double std = 1, DType dtype = DType::F32);
// Normal, with values outside [low, high] left out.
Tensor trunc_normal(const Shape& shape, double mean = 0, double std = 1, double low = -2, double high = 2,
                    DType dtype = DType::F32);

struct Fans {
  int64_t in;
  int64_t out;
};
// Errors: ShapeError for fewer than two axes.
Fans fans(const Shape& shape);
// The factor that keeps the variance through a nonlinearity: "linear", "relu", "leaky_relu" (with its slope), "tanh",
// "sigmoid", "selu". Errors: ValueError naming the nearest name.
double gain(std::string_view nonlinearity, double slope = 0.01);

// Glorot and Bengio 2010.
Tensor xavier_uniform(const Shape& shape, double gain = 1, DType dtype = DType::F32);
Tensor xavier_normal(const Shape& shape, double gain = 1, DType dtype = DType::F32);

enum class FanMode { In, Out };
struct KaimingOptions {
  FanMode mode = FanMode::In;
  std::string_view nonlinearity = "leaky_relu";
  double slope = 0;  // of leaky_relu; 0 is relu
  DType dtype = DType::F32;
};
// He et al., arXiv 1502.01852.
Tensor kaiming_uniform(const Shape& shape, const KaimingOptions& options = {});
Tensor kaiming_normal(const Shape& shape, const KaimingOptions& options = {});

// A matrix with orthonormal rows or columns (the other axes flattened into columns), times gain: Saxe et al.,
// arXiv 1312.6120. Computed in f64 on the host.
Tensor orthogonal(const Shape& shape, double gain = 1, DType dtype = DType::F32);

}  // namespace tenon::nn::init
