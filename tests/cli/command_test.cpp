// The command, end to end: short runs on small made data, as separate processes.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "process.h"
#include "tenon/data/idx.h"
#include "tenon/data/random.h"
#include "tenon/train/run_folder.h"
#include "tests/support/temp_folder.h"

namespace tenon::cli {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

class CommandTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        testing_support::temp_folder() + "/tenon_cli_" + testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override {
    if (!HasFailure()) fs::remove_all(folder_);
  }

  Finished tenon(const std::vector<std::string>& words, const std::function<bool(pid_t)>& poke = {}) const {
    return run_process(words, folder_ + "/io", poke);
  }

  // Sentences with a pattern to learn.
  std::string text_file() const {
    std::string text;
    data::Random random(5);
    const char* animals[] = {"cat", "dog", "owl"};
    const char* places[] = {"mat", "log", "elm"};
    while (text.size() < 6000) {
      const auto i = random.below(3);
      text += std::string("the ") + animals[i] + " sat on the " + places[i] + ".\n";
    }
    std::ofstream(folder_ + "/text.txt") << text;
    return folder_ + "/text.txt";
  }

  // 28 x 28 images; the label is the bright quarter.
  std::string image_folder() const {
    fs::create_directories(folder_ + "/images");
    for (const auto& [stem, count] : {std::pair{"train", 256}, std::pair{"t10k", 64}}) {
      data::HostArray images{.dtype = DType::U8, .shape = {count, 28, 28}, .bytes = {}},
          labels{.dtype = DType::U8, .shape = {count}, .bytes = {}};
      data::Random random(static_cast<std::uint64_t>(count));
      for (int i = 0; i < count; ++i) {
        const auto label = random.below(4);
        labels.bytes.push_back(static_cast<std::byte>(label));
        for (int y = 0; y < 28; ++y)
          for (int x = 0; x < 28; ++x)
            images.bytes.push_back(
                static_cast<std::byte>((y / 14 * 2 + x / 14 == label ? 120 : 0) + random.below(100)));
      }
      write_file_atomic(folder_ + "/images/" + stem + "-images-idx3-ubyte", data::encode_idx(images));
      write_file_atomic(folder_ + "/images/" + stem + "-labels-idx1-ubyte", data::encode_idx(labels));
    }
    return folder_ + "/images";
  }

  std::vector<std::string> gpt(const std::string& out, std::vector<std::string> more = {}) const {
    std::vector<std::string> words{"train",
                                   "--task",
                                   "language-model",
                                   "--data",
                                   text_file(),
                                   "--layers",
                                   "1",
                                   "--heads",
                                   "2",
                                   "--width",
                                   "16",
                                   "--context",
                                   "16",
                                   "--batch-size",
                                   "4",
                                   "--steps",
                                   "60",
                                   "--eval-every",
                                   "20",
                                   "--warmup",
                                   "5",
                                   "--sample-length",
                                   "20",
                                   "--out",
                                   folder_ + "/" + out};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  std::vector<std::byte> weights(const std::string& run) const {
    return read_file(folder_ + "/" + run + "/model.safetensors");
  }

  std::string folder_;
};

TEST_F(CommandTest, HelpAndVersion) {
  const auto help = tenon({"--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.out, HasSubstr("train       train a model"));
  EXPECT_EQ(tenon({"train", "--help"}).code, 0);
  EXPECT_EQ(tenon({"help", "generate"}).out, tenon({"generate", "--help"}).out);
  EXPECT_THAT(tenon({"--version"}).out, testing::StartsWith("tenon "));
  const auto nothing = tenon({});
  EXPECT_EQ(nothing.code, 2);
  EXPECT_THAT(nothing.err, HasSubstr("Usage: tenon COMMAND"));
}

TEST_F(CommandTest, LanguageModelFromTrainToGenerate) {
  const auto trained = tenon(gpt("run"));
  ASSERT_EQ(trained.code, 0) << trained.err;
  EXPECT_THAT(trained.out, HasSubstr("report: " + folder_ + "/run/report.html"));
  const auto run = train::RunFolder::open(folder_ + "/run");
  ASSERT_EQ(run.rows().size(), 3u);
  EXPECT_EQ(run.rows().back().step, 60);
  EXPECT_LT(*run.rows().back().val_loss, *run.rows().front().val_loss);
  EXPECT_GT(*run.rows().back().tokens_per_second, 0);
  EXPECT_EQ(run.samples().size(), 3u);
  for (const char* file :
       {"model.safetensors", "metrics.jsonl", "config.json", "report.html", "checkpoint/state.safetensors"})
    EXPECT_TRUE(fs::exists(folder_ + "/run/" + file)) << file;
  bool events = false;
  for (const auto& entry : fs::directory_iterator(folder_ + "/run"))
    events = events || entry.path().filename().string().starts_with("events.out.tfevents");
  EXPECT_TRUE(events);

  const auto eval = tenon({"eval", folder_ + "/run"});
  EXPECT_EQ(eval.code, 0) << eval.err;
  EXPECT_THAT(eval.out, HasSubstr(fmt::format("loss      {:.4f}", *run.rows().back().val_loss)));

  const std::vector<std::string> generate{"generate", folder_ + "/run", "--prompt", "the ", "--length",
                                          "30",       "--seed",         "4"};
  const auto text = tenon(generate);
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_EQ(text.out.size(), 4 + 30 + 1u);
  EXPECT_THAT(text.out, testing::StartsWith("the "));
  EXPECT_EQ(tenon(generate).out, text.out);
  EXPECT_NE(tenon({"generate", folder_ + "/run", "--prompt", "the ", "--length", "30", "--seed", "5"}).out, text.out);

  const auto info = tenon({"info", folder_ + "/run"});
  EXPECT_EQ(info.code, 0) << info.err;
  EXPECT_THAT(info.out, HasSubstr("task            language-model"));
  EXPECT_THAT(info.out, HasSubstr("weights: "));
  EXPECT_THAT(info.out, HasSubstr("metrics: 3 rows"));
}

TEST_F(CommandTest, ImageClassificationFromTrainToEval) {
  for (const std::string model : {"lenet", "mlp"}) {
    const std::string out = folder_ + "/" + model;
    const auto trained = tenon({"train", "--task", "image-classification", "--data", image_folder(), "--model", model,
                                "--epochs", "3", "--batch-size", "32", "--out", out});
    ASSERT_EQ(trained.code, 0) << trained.err;
    const auto run = train::RunFolder::open(out);
    ASSERT_EQ(run.rows().size(), 3u);
    EXPECT_EQ(run.rows().back().epoch, 3);
    EXPECT_GT(*run.rows().back().val_accuracy, 0.9) << model;
    EXPECT_EQ(run.config().get<std::int64_t>("classes"), 4);
    const auto eval = tenon({"eval", out, "--data", folder_ + "/images"});
    EXPECT_EQ(eval.code, 0) << eval.err;
    EXPECT_THAT(eval.out, HasSubstr("accuracy"));
  }
}

TEST_F(CommandTest, ThreadsAndRepetitionGiveTheSameBits) {
  ASSERT_EQ(tenon(gpt("a", {"--threads", "1", "--dropout", "0.1"})).code, 0);
  ASSERT_EQ(tenon(gpt("b", {"--threads", "2", "--dropout", "0.1"})).code, 0);
  EXPECT_EQ(weights("a"), weights("b"));
  ASSERT_EQ(tenon(gpt("c", {"--seed", "2", "--dropout", "0.1"})).code, 0);
  EXPECT_NE(weights("a"), weights("c"));
}

// Ctrl-C in the middle, then --resume: the same weights, the same rows.
TEST_F(CommandTest, InterruptedAndResumedEndsWithTheSameBits) {
  auto whole_words = gpt("whole"), part_words = gpt("part");
  for (auto* words : {&whole_words, &part_words}) {
    *std::find(words->begin(), words->end(), "60") = "400";
    words->insert(words->end(), {"--dropout", "0.1"});
  }
  ASSERT_EQ(tenon(whole_words).code, 0);
  for (const int signal : {SIGINT, SIGTERM}) {
    fs::remove_all(folder_ + "/part");
    const auto stopped = tenon(part_words, [&](pid_t pid) {
      std::error_code error;
      const bool begun = fs::file_size(folder_ + "/part/metrics.jsonl", error) > 0 && !error;
      if (begun) ::kill(pid, signal);
      return begun;
    });
    ASSERT_EQ(stopped.code, 130) << stopped.err;
    EXPECT_THAT(stopped.err, HasSubstr("go on with: tenon train --resume " + folder_ + "/part"));
    const auto resumed = tenon({"train", "--resume", folder_ + "/part"});
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_EQ(weights("part"), weights("whole"));
    const auto a = train::RunFolder::open(folder_ + "/whole"), b = train::RunFolder::open(folder_ + "/part");
    ASSERT_EQ(a.rows().size(), b.rows().size());
    for (std::size_t i = 0; i < a.rows().size(); ++i) {
      EXPECT_EQ(a.rows()[i].train_loss, b.rows()[i].train_loss);
      EXPECT_EQ(a.rows()[i].val_loss, b.rows()[i].val_loss);
    }
    EXPECT_EQ(a.samples(), b.samples());
  }
}

// The samples of a run begin with a newline, which not every text has.
TEST_F(CommandTest, ATextOfOneLineIsLearntAndWritten) {
  auto words = gpt("run");
  std::ofstream(folder_ + "/text.txt") << [] {
    std::string text;
    while (text.size() < 3000) text += "one two three ";
    return text;
  }();
  const auto trained = tenon(words);
  ASSERT_EQ(trained.code, 0) << trained.err;
  const auto written = tenon({"generate", folder_ + "/run", "--length", "10"});
  EXPECT_EQ(written.code, 0) << written.err;
  EXPECT_EQ(written.out.size(), 1 + 10 + 1u);
  EXPECT_EQ(tenon({"eval", folder_ + "/run"}).code, 0);
  // A run that is done says so, and gets no files of a session that did nothing.
  const auto event_files = [&] {
    return std::count_if(fs::directory_iterator(folder_ + "/run"), fs::directory_iterator(), [](const auto& entry) {
      return entry.path().filename().string().find("tfevents") != std::string::npos;
    });
  };
  EXPECT_EQ(event_files(), 1);
  const auto again = tenon({"train", "--resume", folder_ + "/run"});
  EXPECT_EQ(again.code, 0);
  EXPECT_THAT(again.err, HasSubstr("the run had done all its steps; more: tenon train --resume"));
  EXPECT_EQ(event_files(), 1);
}

// Ctrl-C before the first evaluation: what was learnt until then can be used.
TEST_F(CommandTest, InterruptedEarlyLeavesAModel) {
  auto words = gpt("early", {"--eval-every", "1000000"});
  words.erase(std::find(words.begin(), words.end(), "--eval-every"), std::find(words.begin(), words.end(), "--warmup"));
  *std::find(words.begin(), words.end(), "60") = "1000000";
  const auto stopped = tenon(words, [&](pid_t pid) {
    const bool begun = fs::exists(folder_ + "/early/config.json");
    if (begun) ::kill(pid, SIGINT);
    return begun;
  });
  ASSERT_EQ(stopped.code, 130) << stopped.err;
  EXPECT_TRUE(fs::exists(folder_ + "/early/model.safetensors"));
  EXPECT_EQ(tenon({"generate", folder_ + "/early", "--length", "3"}).code, 0);
}

TEST_F(CommandTest, MistakesSayWhatToDo) {
  ASSERT_EQ(tenon(gpt("run")).code, 0);
  const std::string run = folder_ + "/run";
  std::ofstream(folder_ + "/short.txt") << "abc";
  std::ofstream(folder_ + "/other.txt") << std::string(200, '#');
  std::ofstream(folder_ + "/binary.txt") << "\xff\xfe";
  std::ofstream(folder_ + "/one.txt") << "t";
  fs::create_directories(folder_ + "/empty");

  const std::string other_classes = [&] {
    const std::string images = image_folder() + "2";
    fs::rename(folder_ + "/images", images);
    auto labels = data::read_idx(fs::path(images + "/t10k-labels-idx1-ubyte"));
    labels.bytes[0] = static_cast<std::byte>(7);
    write_file_atomic(images + "/t10k-labels-idx1-ubyte", data::encode_idx(labels));
    return images;
  }();
  const std::string without_tests = image_folder();
  write_file_atomic(without_tests + "/t10k-images-idx3-ubyte",
                    data::encode_idx({.dtype = DType::U8, .shape = {0, 28, 28}, .bytes = {}}));
  write_file_atomic(without_tests + "/t10k-labels-idx1-ubyte",
                    data::encode_idx({.dtype = DType::U8, .shape = {0}, .bytes = {}}));
  const auto damaged = [&](const std::string& name, const std::string& file, const std::string& bytes) {
    fs::copy(run, folder_ + "/" + name, fs::copy_options::recursive);
    write_file_atomic(folder_ + "/" + name + "/" + file, bytes);
    return folder_ + "/" + name;
  };
  const std::string weights = read_text_file(run + "/model.safetensors"), config = read_text_file(run + "/config.json");
  auto other_width = config;
  other_width.replace(other_width.find("\"width\": 16"), 11, "\"width\": 32");
  auto bad_layers = config;
  bad_layers.replace(bad_layers.find("\"layers\": 1"), 11, "\"layers\": -2");
  auto other_task = config;
  other_task.replace(other_task.find("language-model"), 14, "language-modal");

  struct Case {
    std::vector<std::string> words;
    int code;
    std::string text;
  };
  const std::vector<Case> cases{
      {{"trian"}, 2, "unknown command \"trian\""},
      {{"train"}, 2, "--task is missing"},
      {{"train", "--task", "language-model"}, 2, "--data is missing"},
      {{"train", "--task", "language-model", "--data", "x"}, 2, "--out is missing"},
      {{"train", "--task", "language-model", "--data", folder_ + "/none.txt", "--out", folder_ + "/n1"}, 1, "none.txt"},
      {{"train", "--task", "language-model", "--data", folder_ + "/short.txt", "--out", folder_ + "/n2"},
       1,
       "short.txt"},
      {{"train", "--task", "image-classification", "--data", folder_ + "/none", "--out", folder_ + "/n3"}, 1, "/none"},
      {{"train", "--task", "image-classification", "--data", folder_ + "/empty", "--out", folder_ + "/n4"},
       1,
       "train-images"},
      {gpt("run"), 1, "a run is already in this folder"},
      {gpt("n1", {"--profile", ""}), 2, "--profile: the value is empty"},
      {{"train", "--task", "language-model", "--data", folder_ + "/text.txt", "--out", ""},
       2,
       "--out: the value is empty"},
      {{"train", "--task", "image-classification", "--data", without_tests, "--out", folder_ + "/n2"},
       1,
       "/images: no test images"},
      {{"train", "--task", "image-classification", "--data", other_classes, "--out", folder_ + "/n2"},
       1,
       "images2: the file of the test labels (t10k-labels) has a class that the training labels have not; expected 0 "
       "to "
       "3, got 7"},
      {{"train", "--resume", ""}, 1, "the path is empty"},
      {{"train", "--resume", run, "--steps", "59"}, 2, "--steps: the run is further than that; expected 60 or more"},
      {{"eval", ""}, 1, "the path is empty"},
      {{"eval", run, "--data", folder_ + "/binary.txt"}, 1, "binary.txt: the text is not UTF-8 at byte 0"},
      {{"eval", run, "--data", folder_ + "/one.txt"}, 1, "one.txt: too short to measure anything"},
      {gpt("n5", {"--lr", "-1"}), 2, "--lr: out of range"},
      {gpt("n6", {"--epochs", "1"}), 2, "--epochs is not an option of --task language-model"},
      {{"train", "--resume", folder_ + "/none"}, 1, "no such run"},
      {{"train", "--resume", run, "--lr", "0.5"},
       2,
       "--lr: not the setting that the run began with; expected 0.001, got 0.5"},
      {{"train", "--resume", run, "--out", folder_ + "/n7"}, 2, "--out and --resume name two folders"},
      {{"eval", folder_ + "/none"}, 1, "no such run"},
      {{"eval", folder_ + "/empty"}, 1, "config.json is missing"},
      {{"eval", run, "--data", folder_ + "/other.txt"}, 1, "#"},
      {{"eval", damaged("d1", "model.safetensors", weights.substr(0, 100))}, 1, "model.safetensors: truncated"},
      {{"eval", damaged("d2", "model.safetensors", "garbage, not weights")},
       1,
       "model.safetensors: not a safetensors file"},
      {{"eval", damaged("d3", "config.json", "{")}, 1, "config.json: not JSON"},
      {{"eval", damaged("d4", "config.json", other_width)}, 1, "model.safetensors: the weights of another model"},
      {{"eval", damaged("d5", "config.json", other_task)}, 1, "unknown task"},
      {{"eval", damaged("d8", "config.json", bad_layers)},
       1,
       "d8/config.json: \"layers\" is out of range; expected an integer from 1 to 1000, got -2"},
      {{"train", "--resume", folder_ + "/d8"}, 1, "d8/config.json: \"layers\" is out of range"},
      {gpt("diverged", {"--lr", "1e9", "--grad-clip", "0"}), 1,
       "try: a smaller --lr, or a limit to the gradient: --grad-clip 1"},
      {{"info", damaged("d6", "metrics.jsonl", "{\"step\":1,\"epoch\":1}\nnonsense\n")},
       1,
       "metrics.jsonl:2: not a row of metrics"},
      {{"train", "--resume", damaged("d7", "checkpoint/state.safetensors", weights)},
       1,
       "not a checkpoint of a training run"},
      {{"generate", run, "--prompt", "ß"}, 1, "ß"},
      {{"generate", run, "--prompt", ""}, 1, "the prompt is empty"},
      {{"generate", run, "--temperature", "hot"}, 2, "--temperature: not a number"},
      {{"info"}, 2, "PATH is missing"},
  };
  for (const auto& c : cases) {
    const auto finished = tenon(c.words);
    EXPECT_EQ(finished.code, c.code) << testing::PrintToString(c.words) << "\n" << finished.err;
    EXPECT_THAT(finished.err, HasSubstr(c.text));
    EXPECT_EQ(finished.out, "");
  }
  for (int i = 1; i <= 7; ++i)
    EXPECT_FALSE(fs::exists(folder_ + "/n" + std::to_string(i))) << "a failed command left a folder";
}

}  // namespace
}  // namespace tenon::cli
