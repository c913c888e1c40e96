// What the tests of published models share: the goldens that scripts in tools/goldens made, and comparing with them.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tenon/base/file.h"
#include "tenon/tensor/tensor.h"
#include "tests/support/difference.h"

namespace tenon::models {

inline const std::filesystem::path kGoldens = TENON_SOURCE_DIR "/tests/models/goldens";

inline nlohmann::json expected_of(const std::string& name) {
  return nlohmann::json::parse(read_text_file(kGoldens / name / "expected.json"));
}

// i64 from a list of rows.
inline Tensor matrix(const nlohmann::json& rows) {
  std::vector<std::int64_t> flat;
  for (const auto& row : rows)
    for (const auto& value : row) flat.push_back(value);
  const auto count = static_cast<std::int64_t>(rows.size());
  return from_vector(flat, {count, static_cast<std::int64_t>(flat.size()) / count});
}

// Against the elements in a row.
inline void expect_close(const Tensor& got, const nlohmann::json& expected, double tolerance = 1e-4) {
  EXPECT_LT(testing_support::largest_difference(got.to_vector<double>(), expected.get<std::vector<double>>()),
            tolerance);
}

}  // namespace tenon::models
