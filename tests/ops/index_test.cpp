// NumPy's indexing: 240 random indices answered by NumPy (tools/goldens/index.py), gradients, and mistakes.
#include "tenon/ops/index.h"

#include <gmock/gmock.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tenon/base/error.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"
#include "tenon/trace/transforms.h"
#include "tests/support/error_text.h"

using namespace tenon;
using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::error_text;

namespace {

using Json = nlohmann::json;

void flatten_json(const Json& j, std::vector<int64_t>& values, Shape& shape, size_t depth = 0) {
  if (!j.is_array()) {
    values.push_back(j.is_boolean() ? static_cast<int64_t>(j.get<bool>()) : j.get<int64_t>());
    return;
  }
  if (shape.size() == depth) shape.push_back(static_cast<int64_t>(j.size()));
  for (const auto& e : j) flatten_json(e, values, shape, depth + 1);
}

Index index_of(const Json& e) {
  if (e.contains("i")) return e["i"].get<int64_t>();
  if (e.contains("n")) return newaxis;
  if (e.contains("e")) return ellipsis;
  if (e.contains("s")) {
    const auto end = [&](size_t k) {
      return e["s"][k].is_null() ? std::optional<int64_t>() : e["s"][k].get<int64_t>();
    };
    return Slice{end(0), end(1), e["s"][2].get<int64_t>()};
  }
  std::vector<int64_t> values;
  Shape shape;
  const bool mask = e.contains("m");
  flatten_json(mask ? e["m"] : e["t"], values, shape);
  const Tensor t = from_vector(values, shape);
  return mask ? cast(t, boolean) : t;
}

TEST(Index, AnswersAsNumPyDoes) {
  std::ifstream file(TENON_SOURCE_DIR "/tests/ops/goldens/index.json");
  const Json cases = Json::parse(file);
  ASSERT_GE(cases.size(), 200U);
  for (const auto& c : cases) {
    const Shape shape = [&] {
      Shape s;
      for (const auto& d : c["shape"]) s.push_back(d.get<int64_t>());
      return s;
    }();
    const Tensor x = reshape(arange(numel(shape)), shape);
    Indices indices;
    for (const auto& e : c["index"]) indices.push_back(index_of(e));
    const Tensor y = index(x, indices);
    EXPECT_EQ(std::vector<int64_t>(y.shape().begin(), y.shape().end()), c["result_shape"].get<std::vector<int64_t>>())
        << c.dump();
    EXPECT_EQ(y.to_vector<int64_t>(), c["result"].get<std::vector<int64_t>>()) << c.dump();
    const Tensor value = reshape(-1 - arange(y.size()), y.shape());
    EXPECT_EQ(set(x, indices, value).to_vector<int64_t>(), c["after_set"].get<std::vector<int64_t>>()) << c.dump();
    EXPECT_EQ(x.to_vector<int64_t>(), arange(numel(shape)).to_vector<int64_t>()) << "x itself must not change";
  }
}

TEST(Index, CombinesWhereAsked) {
  const Tensor x = zeros({3});
  const Tensor places = tensor({0, 2, 2});
  EXPECT_THAT(set(x, {places}, tensor({1.0, 2.0, 4.0}), ScatterMode::Add).to_vector<float>(), ElementsAre(1, 0, 6));
  EXPECT_THAT(set(x, {places}, tensor({1.0, 2.0, 4.0})).to_vector<float>(), ElementsAre(1, 0, 4));
  const Tensor v = tensor({-1.0, 2.0, -3.0});
  EXPECT_THAT(set(v, {v < 0}, 0).to_vector<float>(), ElementsAre(0, 2, 0));
}

TEST(Index, HasGradients) {
  const Tensor x = tensor({1.0, 2.0, 3.0});
  const auto read = [](const Tensors& in) { return sum(square(index(in[0], {tensor({0, 2, 2})}))); };
  EXPECT_THAT(grad(read)({x})[0].to_vector<float>(), ElementsAre(2, 0, 12));
  const auto write = [](const Tensors& in) { return sum(square(set(in[0], {Slice{1, {}}}, in[1]))); };
  const Tensors g = grad(write)({x, tensor({5.0, 7.0})});
  EXPECT_THAT(g[0].to_vector<float>(), ElementsAre(2, 0, 0));
  EXPECT_THAT(g[1].to_vector<float>(), ElementsAre(10, 14));
}

TEST(Index, MistakesAreExplained) {
  const Tensor x = zeros({2, 3});
  EXPECT_THAT(error_text([&] { index(x, {0, 0, 0}); }), HasSubstr("more indices than axes; expected at most 2, got 3"));
  EXPECT_THAT(error_text([&] { index(x, {ellipsis, ellipsis}); }), HasSubstr("more than one ellipsis"));
  EXPECT_THAT(error_text([&] { index(x, {2}); }),
              HasSubstr("position out of range on axis 0; expected -2 to 1, got 2"));
  EXPECT_THAT(error_text([&] { index(x, {Slice{}, tensor({0, 3})}); }),
              HasSubstr("on axis 1; expected -3 to 2, got 3"));
  EXPECT_THAT(error_text([&] { index(x, {Slice{}, tensor({0, -4})}); }), HasSubstr("got -4"));
  EXPECT_THAT(error_text([&] { index(x, {ones({3}, boolean)}); }), HasSubstr("a mask does not fit axis 0"));
  EXPECT_THAT(error_text([&] { index(x, {tensor({0.0, 1.0})}); }), HasSubstr("neither integer nor boolean"));
  EXPECT_THAT(error_text([&] { index(x, {Slice{0, 2, 0}}); }), HasSubstr("the step of a slice is 0"));
  EXPECT_THAT(error_text([&] { index(x, {tensor({0, 1}), tensor({0, 1, 2})}); }), HasSubstr("broadcast"));
  EXPECT_THAT(
      error_text([&] { set(x, {0}, zeros({4})); }),
      HasSubstr(
          "set: the values do not fit the elements that the indices name; expected what broadcasts to [3], got [4]"));
}

}  // namespace
