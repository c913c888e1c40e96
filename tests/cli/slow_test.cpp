// What the project promises of its first real training runs. Minutes each; the data lie beside the project.
#include <gtest/gtest.h>

#include <filesystem>

#include "process.h"
#include "tenon/train/run_folder.h"
#include "tests/support/temp_folder.h"

namespace tenon::cli {
namespace {

namespace fs = std::filesystem;

std::string fresh(const std::string& name) {
  const std::string folder = testing_support::temp_folder() + "/tenon_slow_" + name;
  fs::remove_all(folder);
  fs::create_directories(folder);
  return folder;
}

class SlowLeNet : public testing::TestWithParam<int> {};

TEST_P(SlowLeNet, Reaches99PercentOnMnistIn5Epochs) {
  const std::string data = TENON_SHARED_DATA "/mnist";
  if (!fs::exists(data)) GTEST_SKIP() << "MNIST is not at " << data;
  const auto folder = fresh("lenet" + std::to_string(GetParam()));
  const auto finished = run_process({"train", "--task", "image-classification", "--data", data, "--model", "lenet",
                                     "--epochs", "5", "--seed", std::to_string(GetParam()), "--out", folder + "/run"},
                                    folder);
  ASSERT_EQ(finished.code, 0) << finished.err;
  const auto run = train::RunFolder::open(folder + "/run");
  ASSERT_EQ(run.rows().size(), 5u);
  EXPECT_GE(*run.rows().back().val_accuracy, 0.990) << finished.err;
  std::printf("%s", finished.out.c_str());
}

INSTANTIATE_TEST_SUITE_P(ThreeSeeds, SlowLeNet, testing::Values(1, 2, 3), testing::PrintToStringParamName());

TEST(SlowGpt, ReachesALossOf188OnTinyShakespeareIn2000Steps) {
  std::string data;
  for (const auto* name : {"/tinyshakespeare/input.txt", "/tinyshakespeare/data/tinyshakespeare/input.txt"})
    if (fs::exists(std::string(TENON_SHARED_DATA) + name)) data = std::string(TENON_SHARED_DATA) + name;
  if (data.empty()) GTEST_SKIP() << "tinyshakespeare is not in " << TENON_SHARED_DATA;
  const auto folder = fresh("gpt");
  const auto finished = run_process(
      {"train",   "--task", "language-model", "--data", data,        "--model", "gpt",          "--layers", "4",
       "--heads", "4",      "--width",        "128",    "--context", "64",      "--batch-size", "12",       "--steps",
       "2000",    "--out",  folder + "/run"},
      folder);
  ASSERT_EQ(finished.code, 0) << finished.err;
  const auto run = train::RunFolder::open(folder + "/run");
  EXPECT_LE(*run.rows().back().val_loss, 1.88) << finished.err;
  std::printf("%s", finished.out.c_str());
}

}  // namespace
}  // namespace tenon::cli
