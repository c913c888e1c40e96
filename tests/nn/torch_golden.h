// Cases that PyTorch has answered (tools/goldens/torch_layers.py), and comparison with them.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"
#include "tenon/tensor/variable.h"

namespace tenon::test {

inline nlohmann::json read_golden(const std::string& name) {
  std::ifstream file(TENON_SOURCE_DIR "/tests/nn/goldens/" + name);
  EXPECT_TRUE(file) << name;
  return nlohmann::json::parse(file);
}

// f32, i64 or bool.
inline Tensor golden_tensor(const nlohmann::json& j) {
  const Shape shape = [&] {
    Shape s;
    for (const auto& extent : j.at("shape")) s.push_back(extent.get<int64_t>());
    return s;
  }();
  const std::string dtype = j.value("dtype", "f32");
  if (dtype == "f32") return from_vector(j.at("values").get<std::vector<float>>(), shape);
  if (dtype == "i64") return from_vector(j.at("values").get<std::vector<int64_t>>(), shape);
  std::vector<int64_t> bits;
  for (const auto& b : j.at("values")) bits.push_back(b.get<bool>() ? 1 : 0);
  return cast(from_vector(bits, shape), boolean);
}

// Equal shapes, and values to `tolerance` of the largest magnitude (at least 1).
inline void expect_close(const Tensor& got, const nlohmann::json& want, const std::string& what,
                         double tolerance = 2e-5) {
  ASSERT_TRUE(got.defined()) << what;
  const Tensor golden = golden_tensor(want);
  ASSERT_EQ(to_string(got.shape()), to_string(golden.shape())) << what;
  const auto a = got.to_vector<double>(), b = golden.to_vector<double>();
  double scale = 1;
  for (const double v : b) {
    if (std::isfinite(v)) scale = std::max(scale, std::abs(v));
  }
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i]) continue;
    ASSERT_NEAR(a[i], b[i], tolerance * scale) << what << ", element " << i;
  }
}

// sum over outputs of cos(0.7 k + 0.3) * output[k], which the script differentiates.
inline Tensor weighted(const Tensors& outputs) {
  Tensor total;
  for (const Tensor& y : outputs) {
    if (!is_float(y.dtype())) continue;
    std::vector<float> w;
    for (int64_t k = 0; k < y.size(); ++k)
      w.push_back(static_cast<float>(std::cos(0.7 * static_cast<double>(k) + 0.3)));
    const Tensor part = sum(flatten(y) * from_vector(w, {y.size()}));
    total = total.defined() ? total + part : part;
  }
  return total;
}

}  // namespace tenon::test
