#include "tenon/nn/init.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "tenon/base/error.h"
#include "tenon/base/nearest.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/random.h"

namespace tenon::nn::init {

namespace {
int& without_values() {
  thread_local int scopes = 0;  // in force
  return scopes;
}

Tensor one_zero_for_all(const Shape& shape, DType dtype) { return expand(tenon::zeros({}, dtype), shape); }
}  // namespace

WithoutValues::WithoutValues() { ++without_values(); }
WithoutValues::~WithoutValues() { --without_values(); }

Tensor constant(const Shape& shape, double value, DType dtype) {
  return without_values() > 0 ? one_zero_for_all(shape, dtype) : full(shape, value, dtype);
}
Tensor zeros(const Shape& shape, DType dtype) { return constant(shape, 0, dtype); }
Tensor ones(const Shape& shape, DType dtype) { return constant(shape, 1, dtype); }
Tensor eye(const Shape& shape, DType dtype) {
  if (shape.size() != 2)
    throw ShapeError({"init::eye", "only a matrix has a diagonal", "2 axes", to_string(shape), {}});
  if (without_values() > 0) return one_zero_for_all(shape, dtype);
  return tenon::eye(shape[0], shape[1], dtype);
}
Tensor uniform(const Shape& shape, double low, double high, DType dtype) {
  return without_values() > 0 ? one_zero_for_all(shape, dtype) : tenon::uniform(shape, low, high, dtype);
}
Tensor normal(const Shape& shape, double mean, double std, DType dtype) {
  return without_values() > 0 ? one_zero_for_all(shape, dtype) : tenon::normal(shape, mean, std, dtype);
}
Tensor trunc_normal(const Shape& shape, double mean, double std, double low, double high, DType dtype) {
  if (!(std > 0 && low < high))
    throw ValueError({"init::trunc_normal",
                      "the interval or the deviation is empty",
                      "std > 0 and low < high",
                      fmt::format("std {}, low {}, high {}", std, low, high),
                      {}});
  if (without_values() > 0) return one_zero_for_all(shape, dtype);
  return truncated_normal(shape, mean, std, (low - mean) / std, (high - mean) / std, dtype);
}

Fans fans(const Shape& shape) {
  if (shape.size() < 2)
    throw ShapeError({"init",
                      "fan-in and fan-out need a weight of at least two axes",
                      "[out, in, kernel...]",
                      to_string(shape),
                      {}});
  int64_t window = 1;
  for (size_t i = 2; i < shape.size(); ++i) window *= shape[i];
  return {shape[1] * window, shape[0] * window};
}

double gain(std::string_view nonlinearity, double slope) {
  struct Row {
    std::string_view name;
    double gain;
  };
  const std::array rows{Row{"linear", 1.0},
                        Row{"sigmoid", 1.0},
                        Row{"tanh", 5.0 / 3},
                        Row{"relu", std::sqrt(2.0)},
                        Row{"leaky_relu", std::sqrt(2 / (1 + slope * slope))},
                        Row{"selu", 0.75}};
  std::vector<std::string_view> names;
  for (const auto& row : rows) {
    if (row.name == nonlinearity) return row.gain;
    names.push_back(row.name);
  }
  throw ValueError({"init::gain", "unknown nonlinearity", "linear, sigmoid, tanh, relu, leaky_relu or selu",
                    std::string(nonlinearity), std::string(nearest_name(nonlinearity, names))});
}

Tensor xavier_uniform(const Shape& shape, double gain, DType dtype) {
  const Fans f = fans(shape);
  const double bound = gain * std::sqrt(6.0 / static_cast<double>(f.in + f.out));
  return init::uniform(shape, -bound, bound, dtype);
}
Tensor xavier_normal(const Shape& shape, double gain, DType dtype) {
  const Fans f = fans(shape);
  return init::normal(shape, 0, gain * std::sqrt(2.0 / static_cast<double>(f.in + f.out)), dtype);
}

namespace {

double kaiming_std(const Shape& shape, const KaimingOptions& options) {
  const Fans f = fans(shape);
  const auto fan = static_cast<double>(options.mode == FanMode::In ? f.in : f.out);
  return gain(options.nonlinearity, options.slope) / std::sqrt(fan);
}

}  // namespace

Tensor kaiming_uniform(const Shape& shape, const KaimingOptions& options) {
  const double bound = std::sqrt(3.0) * kaiming_std(shape, options);
  return init::uniform(shape, -bound, bound, options.dtype);
}
Tensor kaiming_normal(const Shape& shape, const KaimingOptions& options) {
  return init::normal(shape, 0, kaiming_std(shape, options), options.dtype);
}

Tensor orthogonal(const Shape& shape, double gain, DType dtype) {
  const Fans unused = fans(shape);  // checks the rank
  (void)unused;
  if (without_values() > 0) return one_zero_for_all(shape, dtype);
  const int64_t rows = shape[0], columns = numel(shape) / std::max<int64_t>(rows, 1);
  const int64_t count = std::min(rows, columns), length = std::max(rows, columns);
  // Gram and Schmidt, twice for accuracy, on the longer side's vectors.
  std::vector<double> v = init::normal({count, length}, 0, 1, DType::F64).to_vector<double>();
  for (int64_t i = 0; i < count; ++i) {
    double* a = v.data() + i * length;
    for (int64_t j = 0; j < 2 * i; ++j) {
      const double* b = v.data() + j % i * length;
      double dot = 0;
      for (int64_t k = 0; k < length; ++k) dot += a[k] * b[k];
      for (int64_t k = 0; k < length; ++k) a[k] -= dot * b[k];
    }
    double norm = 0;
    for (int64_t k = 0; k < length; ++k) norm += a[k] * a[k];
    for (int64_t k = 0; k < length; ++k) a[k] /= std::sqrt(norm);
  }
  Tensor q = from_vector(v, {count, length}) * gain;
  if (rows > columns) q = transpose(q);
  return cast(reshape(q, shape), dtype);
}

}  // namespace tenon::nn::init
