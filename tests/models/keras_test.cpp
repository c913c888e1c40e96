// Keras models: what Keras itself computes (tools/goldens/keras_models.py), a published one on the images that it was
// made for, and what cannot be read.
#include "tenon/models/keras.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/data/idx.h"
#include "tenon/data/to_tensor.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"
#include "tenon/trace/state.h"
#include "tests/support/temp_folder.h"

namespace tenon::models {
namespace {

const std::filesystem::path kModel = TENON_SHARED_DATA "/keras_mnist/models/model.keras";

TEST(Keras, APublishedClassifierScoresAsItIsKnownTo) {
  if (!std::filesystem::exists(kModel)) GTEST_SKIP() << "the shared test data is not there";
  const KerasModel model = KerasModel::load(kModel);
  ASSERT_EQ(model.layers().size(), 9U);
  EXPECT_EQ(model.layers()[1].name, "conv2d_6");
  EXPECT_EQ(model.state_dict().at("dense_5.0").shape(), (Shape{64, 10}));
  const NoGrad no_grad;
  const auto folder = std::filesystem::path(TENON_SHARED_DATA) / "mnist";
  const Tensor images = data::to_tensor(data::read_idx(folder / "t10k-images-idx3-ubyte.gz"));
  const auto labels = data::to_tensor(data::read_idx(folder / "t10k-labels-idx1-ubyte.gz")).to_vector();
  std::int64_t right = 0;
  constexpr std::int64_t kBatch = 500;
  for (std::int64_t at = 0; at < 10000; at += kBatch) {
    const Tensor x = unsqueeze(cast(narrow(images, 0, at, kBatch), DType::F32) / Tensor(255.0), {-1});
    const auto best = argmax(model(x), -1).to_vector();
    for (std::size_t i = 0; i < best.size(); ++i) right += best[i] == labels[static_cast<std::size_t>(at) + i] ? 1 : 0;
  }
  EXPECT_EQ(right, 9889);
}

const std::filesystem::path kGoldens = TENON_SOURCE_DIR "/tests/models/goldens/keras";

Tensor tensor_of(const nlohmann::json& entry) {
  const auto shape = entry["shape"].get<std::vector<std::int64_t>>();
  return from_vector(entry["values"].get<std::vector<float>>(), Shape(shape.begin(), shape.end()));
}

class KerasFile : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Goldens, KerasFile,
                         ::testing::Values("sequential", "functional", "tokens", "more_layers", "recurrent"),
                         [](const auto& info) { return info.param; });
TEST_P(KerasFile, ComputesWhatKerasComputes) {
  const NoGrad no_grad;
  const auto expected = nlohmann::json::parse(read_text_file(kGoldens / (GetParam() + ".json")));
  std::vector<Tensor> inputs;
  for (const auto& entry : expected["inputs"]) inputs.push_back(tensor_of(entry));
  for (const char* extension : {".keras", ".h5"}) {
    const KerasModel model = KerasModel::load(kGoldens / (GetParam() + extension));
    const auto results = model.run(inputs);
    ASSERT_EQ(results.size(), expected["results"].size());
    for (std::size_t i = 0; i < results.size(); ++i) {
      const Tensor want = tensor_of(expected["results"][i]);
      ASSERT_EQ(results[i].shape(), want.shape()) << extension;
      const auto a = results[i].to_vector(), b = want.to_vector();
      for (std::size_t k = 0; k < a.size(); ++k) ASSERT_NEAR(a[k], b[k], 1e-5) << extension << ", element " << k;
    }
  }
}

TEST(Keras, DamagedFilesAreTypedErrors) {
  const std::string path = testing_support::temp_folder() + "/bad.keras";
  write_file_atomic(path, std::string_view("nonsense"));
  EXPECT_THROW((void)KerasModel::load(path), FormatError);
  EXPECT_THROW((void)KerasModel::load(path + ".missing"), FileError);
  if (!std::filesystem::exists(kModel)) GTEST_SKIP() << "the shared test data is not there";
  const auto bytes = read_file(kModel);
  for (std::size_t part = 1; part < 16; ++part) {
    write_file_atomic(path, std::span(bytes).first(bytes.size() * part / 16));
    EXPECT_THROW((void)KerasModel::load(path), FormatError);
  }
}

}  // namespace
}  // namespace tenon::models
