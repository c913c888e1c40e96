#include "tenon/tensor/tensor_print.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tenon/tensor/element.h"
#include "tenon/tensor/tensor_view.h"

namespace tenon {
namespace {

Tensor from_case(const nlohmann::json& golden) {
  Shape shape;
  for (const auto& extent : golden["shape"]) shape.push_back(extent.get<int64_t>());
  Tensor x = empty(shape, dtype_from_name(golden["dtype"].get<std::string>()));
  const View to = mutable_view(x);
  if (golden["values"].is_null()) {
    for (int64_t k = 0; k < x.size(); ++k) store_integer(to, k, k);
    return x;
  }
  int64_t i = 0;
  for (const auto& value : golden["values"]) {
    if (value.is_string()) {
      store_real(to, i++, std::bit_cast<double>(std::stoull(value.get<std::string>(), nullptr, 16)));
    } else {
      store_integer(to, i++, static_cast<int64_t>(value.get<uint64_t>()));
    }
  }
  return x;
}

TEST(TensorPrint, LaysOutAsNumpyDoes) {
  std::ifstream file(TENON_SOURCE_DIR "/tests/tensor/goldens/print.json");
  const nlohmann::json cases = nlohmann::json::parse(file);
  ASSERT_GT(cases.size(), 40u);
  for (const auto& golden : cases) EXPECT_EQ(to_string(from_case(golden)), golden["text"].get<std::string>());
}

TEST(TensorPrint, NarrowFloatsShowTheFewestDigits) {
  Tensor x = empty({3}, f8e4m3);
  const View to = mutable_view(x);
  for (int i = 0; i < 3; ++i) store_real(to, i, std::array{0.1, 448.0, -3.5}[static_cast<size_t>(i)]);
  EXPECT_EQ(to_string(x), "tensor([ 1.0e-01,  4.5e+02, -3.5e+00], f8e4m3)");
}

TEST(TensorPrint, GoesToAStream) {
  std::ostringstream text;
  text << tensor({1.0, 2.0}) << " and " << Tensor();
  EXPECT_EQ(text.str(), "tensor([1., 2.], f32) and tensor(undefined)");
}

TEST(TensorPrint, WithoutElements) {
  EXPECT_EQ(to_string(Tensor()), "tensor(undefined)");
  EXPECT_EQ(to_string(empty({2, 0}, f32)), "tensor([], f32[2, 0])");
}

}  // namespace
}  // namespace tenon
