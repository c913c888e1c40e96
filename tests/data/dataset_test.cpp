// Datasets: what each combinator does to order and content, and the errors of wrong use.
#include "tenon/data/dataset.h"

#include <numeric>

#include "tenon/data/to_tensor.h"
#include "tests/data/support.h"

namespace tenon::data::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Examples {"x": [i, -i] f32, "id": i}.
Dataset numbers(std::int64_t n) {
  std::vector<float> x;
  std::vector<std::int64_t> id(static_cast<std::size_t>(n));
  std::iota(id.begin(), id.end(), 0);
  for (const std::int64_t i : id) x.insert(x.end(), {float(i), -float(i)});
  return Dataset::from_tensors({{"x", from_vector(x, {n, 2})}, {"id", from_vector(id, {n})}});
}

std::vector<std::int64_t> ids(const Dataset& dataset) {
  std::vector<std::int64_t> result;
  for (const auto& example : dataset) result.push_back(example["id"].item<std::int64_t>());
  return result;
}

std::string value_error(const std::function<void()>& fn) { return error_text<ValueError>(fn); }

TEST(HostArray, BecomesATensorAndBack) {
  const auto array = array_of<std::int16_t>({1, 2, 3, 4, 5, 6}, {2, 3});
  const Tensor tensor = to_tensor(HostArray(array));
  EXPECT_EQ(tensor.dtype(), DType::I16);
  EXPECT_THAT(tensor.to_vector<int>(), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_EQ(to_host(tensor).bytes, array.bytes);
  // Read through strides: the transpose of the same memory.
  const Tensor transposed = from_buffer(tensor.impl()->buffer, {DType::I16, {3, 2}}, {1, 3}, 0);
  EXPECT_THAT(values_of<std::int16_t>(to_host(transposed)), ElementsAre(1, 4, 2, 5, 3, 6));
  EXPECT_THAT(value_error([] { (void)to_host(Tensor()); }), HasSubstr("to_host: the tensor has no elements to read"));
}

TEST(Example, FieldsByName) {
  Example example{{"input", Tensor(1.5)}, {"label", Tensor(3)}};
  EXPECT_EQ(example["label"].item<int>(), 3);
  example["label"] = Tensor(4);
  example.set("weight", Tensor(0.5));
  EXPECT_EQ(example.size(), 3U);
  example.erase("input");
  EXPECT_FALSE(example.contains("input"));
  EXPECT_EQ(error_text<IndexError>([&] { (void)example["lable"]; }),
            "Example: no such field; expected one of label, weight, got 'lable'\n  try: batch[\"label\"]");
}

TEST(Dataset, RowsOfTensors) {
  const auto set = numbers(5);
  EXPECT_EQ(set.size(), 5);
  EXPECT_EQ(set[3]["x"].shape(), Shape({2}));
  EXPECT_THAT(set[3]["x"].to_vector<float>(), ElementsAre(3, -3));
  EXPECT_EQ(set[3]["id"].shape(), Shape({}));
  const auto batch = set.gather(std::vector<std::int64_t>{4, 0});
  EXPECT_EQ(batch["x"].shape(), Shape({2, 2}));
  EXPECT_THAT(batch["x"].to_vector<float>(), ElementsAre(4, -4, 0, 0));
  EXPECT_THAT(set.column("id").to_vector<int>(), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_EQ(numbers(3000).column("id").to_vector<int>()[2999], 2999);
}

TEST(Dataset, IndexCombinators) {
  const auto set = numbers(6);
  EXPECT_THAT(ids(set.take(2)), ElementsAre(0, 1));
  EXPECT_EQ(set.take(100).size(), 6);
  EXPECT_THAT(ids(set.skip(4)), ElementsAre(4, 5));
  EXPECT_EQ(set.skip(100).size(), 0);
  EXPECT_THAT(ids(set.repeat(2).skip(5)), ElementsAre(5, 0, 1, 2, 3, 4, 5));
  EXPECT_THAT(ids(set.shard(4, 1)), ElementsAre(1, 5));
  EXPECT_THAT(ids(set.shard(4, 3)), ElementsAre(3));
  EXPECT_THAT(ids(set.select({5, 0, 0})), ElementsAre(5, 0, 0));
  EXPECT_THAT(ids(set.take(1).concat(set.skip(5))), ElementsAre(0, 5));
  const auto [most, rest] = set.split(2.0 / 3);
  EXPECT_EQ(most.size(), 4);
  EXPECT_THAT(ids(rest), ElementsAre(4, 5));
}

TEST(Dataset, ShuffleIsAFixedPermutation) {
  const auto a = ids(numbers(100).shuffle(1));
  EXPECT_EQ(a, ids(numbers(100).shuffle(1)));
  EXPECT_NE(a, ids(numbers(100).shuffle(2)));
  auto sorted = a;
  std::ranges::sort(sorted);
  EXPECT_EQ(sorted, ids(numbers(100)));
}

TEST(Dataset, GatherEqualsGetThroughEveryCombinator) {
  const auto base = numbers(7);
  const auto renamed = base.map([](Example e) {
    Example out;
    out.set("y", e["x"]);
    return out;
  });
  for (const auto& set : {base.shuffle(3), base.repeat(3), base.concat(base.skip(2)), base.zip(renamed),
                          base.skip(1).take(4), base.batch(2).take(3), base.map([](Example e) { return e; })}) {
    std::vector<std::int64_t> indices(static_cast<std::size_t>(set.size()));
    std::iota(indices.rbegin(), indices.rend(), 0);
    const Example batch = set.gather(indices);
    for (std::size_t i = 0; i < indices.size(); ++i) {
      const Example single = set.get(indices[i]);
      for (const auto& [name, value] : single) {
        const auto bytes = to_host(batch[name]).bytes;
        const auto part = to_host(value).bytes;
        ASSERT_EQ(bytes.size(), part.size() * indices.size());
        EXPECT_TRUE(std::equal(part.begin(), part.end(), bytes.begin() + std::ptrdiff_t(i * part.size()))) << name << i;
      }
    }
  }
}

TEST(Dataset, BatchesOfADataset) {
  const auto batches = numbers(5).batch(2);
  EXPECT_EQ(batches.size(), 3);
  EXPECT_EQ(batches[2]["x"].shape(), Shape({1, 2}));
  EXPECT_EQ(numbers(5).batch(2, true).size(), 2);
  const auto doubled = batches.map([](Example b) {
    auto values = b["x"].to_vector<float>();
    for (float& v : values) v *= 2;
    b["x"] = from_vector(values, b["x"].shape());
    return b;
  });
  EXPECT_THAT(doubled[1]["x"].to_vector<float>(), ElementsAre(4, -4, 6, -6));
}

TEST(Dataset, RandomMapsDependOnSeedEpochAndIndexOnly) {
  const auto noisy = numbers(4).map([](Example e, Random& random) {
    e.set("noise", Tensor(random.uniform()));
    return e;
  });
  const auto noise = [&](std::int64_t i, Draw draw) { return noisy.get(i, draw)["noise"].item<double>(); };
  EXPECT_EQ(noise(1, {5, 0}), noise(1, {5, 0}));
  EXPECT_NE(noise(1, {5, 0}), noise(1, {5, 1}));
  EXPECT_NE(noise(1, {5, 0}), noise(1, {6, 0}));
  EXPECT_NE(noise(1, {5, 0}), noise(2, {5, 0}));
  const auto again = noisy.repeat(2);
  EXPECT_NE(again[1]["noise"].item<double>(), again[5]["noise"].item<double>()) << "each round draws anew";
  const auto twice = noisy.map([](Example e, Random& random) {
    e.set("second", Tensor(random.uniform()));
    return e;
  });
  EXPECT_NE(twice[1]["noise"].item<double>(), twice[1]["second"].item<double>()) << "two steps are independent";
}

TEST(Dataset, FunctionsOfAnIndex) {
  const auto squares = Dataset::from_function(4, [](std::int64_t i) { return Example{{"id", Tensor(i * i)}}; });
  EXPECT_THAT(ids(squares), ElementsAre(0, 1, 4, 9));
  EXPECT_EQ(squares.gather(std::vector<std::int64_t>{1, 3})["id"].dtype(), DType::I64) << "weak numbers become tensors";
}

TEST(Dataset, ErrorsOfMapFunctionsCarryTheIndex) {
  const auto bad = numbers(5).map([](Example e) {
    if (e["id"].item<int>() == 3) throw std::runtime_error("no such word");
    return e;
  });
  try {
    (void)bad.batch(2).get(1);
    FAIL();
  } catch (const ExampleError& error) {
    EXPECT_STREQ(error.what(), "example 3: the map function failed: no such word");
    EXPECT_EQ(error.index(), 3);
    EXPECT_THROW(std::rethrow_exception(error.cause()), std::runtime_error);
  }
  const auto cancelled = numbers(1).map([](Example) -> Example { throw CancelledError({"", "stopped", "", "", ""}); });
  EXPECT_THROW((void)cancelled.get(0), CancelledError);
}

TEST(Dataset, WrongUseIsATypedError) {
  const auto set = numbers(3);
  EXPECT_EQ(error_text<IndexError>([&] { (void)set.get(3); }), "Dataset: no such example; expected 0 to 2, got 3");
  EXPECT_THAT(error_text<IndexError>([&] { (void)set.take(0).get(0); }), HasSubstr("nothing: the dataset is empty"));
  EXPECT_THAT(error_text<IndexError>([&] { (void)set.gather(std::vector<std::int64_t>{0, -1}); }), HasSubstr("got -1"));
  EXPECT_THAT(value_error([&] { (void)set.batch(0); }), HasSubstr("Dataset::batch: the batch size is not accepted"));
  EXPECT_THAT(value_error([&] { (void)set.split(1.5); }), HasSubstr("expected 0 to 1, got 1.5"));
  EXPECT_THAT(value_error([&] { (void)set.zip(numbers(4)); }), HasSubstr("expected 3 examples, got 4 examples"));
  EXPECT_THAT(value_error([&] { (void)set.zip(set).get(0); }), HasSubstr("got 'x' twice"));
  EXPECT_THAT(value_error([&] { (void)set.select({3}); }), HasSubstr("Dataset::select: no such example"));
  EXPECT_THAT(value_error([&] { (void)set.shard(2, 2); }), HasSubstr("Dataset::shard: the index is not accepted"));
  EXPECT_THAT(value_error([&] { (void)set.repeat(0); }), HasSubstr("Dataset::repeat"));
  EXPECT_THAT(value_error([] { (void)Dataset::from_tensors({}); }), HasSubstr("no fields"));
  EXPECT_EQ(
      error_text<ShapeError>([] {
        (void)Dataset::from_tensors({{"a", from_vector<float>({1, 2}, {2})}, {"b", from_vector<float>({1}, {1})}});
      }),
      "dataset field 'b': another number of examples than the other fields; expected 2 rows, as 'a' has, got 1 "
      "rows");
  EXPECT_THAT(error_text<ShapeError>([] { (void)Dataset::from_tensors({{"a", Tensor(1.0)}}); }),
              HasSubstr("a scalar has no rows"));
}

TEST(Dataset, ExamplesThatDoNotStackAreNamed) {
  const auto ragged = Dataset::from_function(3, [](std::int64_t i) {
    return Example{{"x", from_vector(std::vector<float>(std::size_t(2 + i / 2)), {2 + i / 2})}};
  });
  EXPECT_EQ(error_text<ShapeError>([&] { (void)ragged.batch(3).get(0); }),
            "batch field 'x': examples 0 and 2 differ in shape; expected [2], got [3]\n"
            "  try: pad or crop the examples to one shape in a map function");
  const auto types = Dataset::from_function(2, [](std::int64_t i) {
    return i == 0 ? Example{{"x", from_vector<float>({1}, {1})}} : Example{{"x", from_vector<double>({1}, {1})}};
  });
  EXPECT_THAT(error_text<DTypeError>([&] { (void)types.batch(2).get(0); }),
              HasSubstr("batch field 'x': examples 0 and 1 differ in element type; expected f32, got f64"));
  const auto fields =
      Dataset::from_function(2, [](std::int64_t i) { return Example{{i == 0 ? "a" : "b", Tensor(1)}}; });
  EXPECT_THAT(value_error([&] { (void)fields.batch(2).get(0); }), HasSubstr("examples 0 and 1 have different fields"));
}

}  // namespace
}  // namespace tenon::data::testing
