// Served ONNX models run as programs, and say what does not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tenon/exec/session.h"
#include "tenon/serve/metrics.h"
#include "tenon/serve/model.h"
#include "tenon/serve/scheduler.h"
#include "tenon/serve/v2_json.h"
#include "tenon/serve/v2_wire.h"
#include "tests/serve/support.h"

namespace tenon::serve {
namespace {

using namespace testing_support;
using testing::HasSubstr;

ModelPtr loaded(const std::string& onnx) {
  const fs::path folder = fresh_folder("onnx_model");
  write_file(folder / "model.onnx", onnx);
  return load_model(folder);
}

std::vector<float> answer(const Model& model, const std::vector<float>& x, const Shape& shape) {
  return std::get<Tensor>(model.run({from_vector(x, shape)})[0]).to_vector<float>();
}

TEST(ServedOnnx, RunsAsAProgramAtEveryBatchSize) {
  const ModelPtr model = loaded(affine_onnx(0.5F, 2));
  for (int round = 0; round < 2; ++round) {
    EXPECT_THAT(answer(*model, {1}, {1}), testing::ElementsAre(2.5F));
    EXPECT_THAT(answer(*model, {1, 2, 5}, {3}), testing::ElementsAre(2.5F, 3, 4.5F));
  }
  EXPECT_EQ(model->execution(), "");
  // One whose sizes are known is ready when it is loaded.
  const ModelPtr fixed = loaded(affine_onnx(0.5F, 2, {1, 2}));
  EXPECT_EQ(fixed->execution(), "");
  EXPECT_THAT(answer(*fixed, {1, 2}, {1, 2}), testing::ElementsAre(2.5F, 3));
}

TEST(ServedOnnx, ClientsCanReadWhyAModelRunsNodeByNode) {
  const ModelPtr model =
      loaded(onnx_model(onnx_node("NonZero", {"x"}, "y") + onnx_value(11, "x", {2}) + onnx_value(12, "y", {1, -1}, 7)));
  EXPECT_THAT(model->execution(), testing::StartsWith("node by node (NonZero: "));
  Metrics metrics;
  const Lane lane("m", 1, model, {}, metrics);
  EXPECT_THAT(v2_model_config(lane, {}, nullptr), HasSubstr(R"("execution":{"string_value":"node by node (NonZero: )"));
  EXPECT_THAT(write_v2_config(lane, {}, nullptr).to_string(), HasSubstr("node by node (NonZero: "));
}

// Node by node nothing is rounded less often, so there it does not say that it is fast.
TEST(ServedOnnx, FastIsWhatRunsAsAProgram) {
  const fs::path folder = fresh_folder("onnx_model");
  write_file(folder / "model.onnx",
             onnx_model(onnx_node("NonZero", {"x"}, "y") + onnx_value(11, "x", {2}) + onnx_value(12, "y", {1, -1}, 7)));
  EXPECT_THAT(load_model(folder, Precision::Fast)->execution(), testing::Not(HasSubstr("fast")));
  write_file(folder / "model.onnx", affine_onnx(0.5F, 2));
  EXPECT_EQ(load_model(folder, Precision::Fast)->execution(), "as a program, made with the first inputs, fast");
}

TEST(ServedOnnx, SeveralInstancesRunTheSameProgramsAtOnce) {
  const ModelPtr model = loaded(affine_onnx(0.5F, 2, {-1, 2}));
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      exec::Session session({.threads = 1});
      const exec::SessionScope scope(session);
      for (int i = 0; i < 50; ++i) {
        const int64_t rows = 1 + (i + t) % 5;
        const auto y = std::get<Tensor>(model->run({rows_of(rows, static_cast<float>(i))})[0]).to_vector<float>();
        const std::vector<float> want(static_cast<size_t>(rows * 2), 0.5F * static_cast<float>(i) + 2);
        if (y != want) ++wrong;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(model->execution(), "");
}

}  // namespace
}  // namespace tenon::serve
