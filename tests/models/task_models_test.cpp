// T5, ResNet and models with the head of a task against transformers (tools/goldens/task_models.py), and saved again.
// TENON_KEEP_SAVED=FOLDER keeps what is saved, for that script's --check FOLDER.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/formats/checkpoint.h"
#include "tenon/models/pretrained.h"
#include "tenon/models/residual_network.h"
#include "tenon/models/t5.h"
#include "tenon/models/text_tasks.h"
#include "tenon/models/vit.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/movement.h"
#include "tenon/trace/state.h"
#include "tests/models/support.h"
#include "tests/support/error_text.h"
#include "tests/support/temp_folder.h"

namespace tenon::models {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing_support::error_text;

Tensor optional_matrix(const json& values, const char* key) {
  return values.contains(key) ? matrix(values[key]) : Tensor();
}

fs::path saved_at(const std::string& name) { return testing_support::temp_folder() + "/saved/" + name; }
void keep(const std::string& name) {
  if (const char* folder = std::getenv("TENON_KEEP_SAVED"))
    fs::copy(saved_at(name), fs::path(folder) / name,
             fs::copy_options::recursive | fs::copy_options::overwrite_existing);
}

std::vector<std::string> sorted_keys(const fs::path& folder) {
  auto keys = formats::load_checkpoint(folder).keys();
  std::sort(keys.begin(), keys.end());
  return keys;
}

// Loads, computes, saves, loads again and computes. The saved file has the weights' names as they were.
template <class Load, class Run>
void expect_reference(const std::string& name, Load load, Run run) {
  SCOPED_TRACE(name);
  const NoGrad no_grad;
  const json expected = expected_of(name);
  const auto loaded = load(kGoldens / name);
  expect_close(run(loaded, expected), expected["result"]);
  save_pretrained(loaded, saved_at(name));
  expect_close(run(load(saved_at(name)), expected), expected["result"]);
  EXPECT_EQ(sorted_keys(saved_at(name)), sorted_keys(kGoldens / name));
  keep(name);
}

Tensor t5_logits(const T5& model, const json& e) {
  return model(matrix(e["ids"]), matrix(e["decoder"]), matrix(e["mask"]));
}

TEST(T5, LogitsEqualTheReference) {
  for (const std::string name : {"t5", "t5_gated"}) expect_reference(name, load_t5, t5_logits);
  EXPECT_FALSE(load_t5(kGoldens / "t5_gated").config.scale_decoder_outputs);
  EXPECT_TRUE(load_t5(kGoldens / "t5").config.scale_decoder_outputs);
}

TEST(T5, BucketsOfDistancesEqualTheReference) {
  const json expected = expected_of("t5")["buckets"];
  const auto buckets = [](std::int64_t most, bool both, std::int64_t count, std::int64_t far) {
    std::vector<std::int64_t> list;
    for (const double v : relative_position_buckets(arange(-most, most + 1), both, count, far).to_vector())
      list.push_back(static_cast<std::int64_t>(v));
    return json(list);
  };
  EXPECT_EQ(buckets(30, true, 32, 128), expected[0]);
  EXPECT_EQ(buckets(30, false, 32, 128), expected[1]);
  EXPECT_EQ(buckets(30, true, 8, 20), expected[2]);
  EXPECT_EQ(buckets(30, false, 8, 20), expected[3]);
  EXPECT_EQ(buckets(300, true, 32, 128), expected[4]);
  EXPECT_EQ(buckets(300, false, 32, 128), expected[5]);
}

TEST(T5, WritesWhatTheReferenceWrites) {
  for (const std::string name : {"t5", "t5_gated"}) {
    const json expected = expected_of(name);
    const T5 model = load_t5(kGoldens / name);
    const Tensor tokens = narrow(matrix(expected["ids"]), 0, 0, 1);
    const auto written =
        generate(model.writer(tokens), {model.config.decoder_start_token_id}, {.max_new_tokens = 20, .temperature = 0});
    EXPECT_EQ(json(written), expected["greedy"]) << name;
  }
}

// A token at a time, or all at once.
TEST(T5, TheCacheHoldsWhatWasWritten) {
  const NoGrad no_grad;
  const json expected = expected_of("t5");
  const T5 model = load_t5(kGoldens / "t5");
  const Tensor mask = matrix(expected["mask"]), decoder = matrix(expected["decoder"]);
  const CausalModel writer = model.writer(matrix(expected["ids"]), mask);
  KeyValueCache cache;
  Tensors parts{writer(narrow(decoder, 1, 0, 11), &cache)};
  for (std::int64_t i = 11; i < 26; ++i) parts.push_back(writer(narrow(decoder, 1, i, 1), &cache));
  expect_close(concat(parts, 1), expected["result"]);
}

TEST(T5, EncoderAndTasksEqualTheReference) {
  const auto run = [](const auto& model, const json& e) { return model(matrix(e["ids"]), matrix(e["mask"])); };
  expect_reference("t5_encoder", load_t5,
                   [](const T5& model, const json& e) { return model.encode(matrix(e["ids"]), matrix(e["mask"])); });
  expect_reference("t5_sequence", load_t5_for_sequence_classification, run);
  expect_reference("t5_token", load_t5_for_token_classification, run);
}

class EncoderTask : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Tasks, EncoderTask,
                         ::testing::Values("bert_sequenceclassification", "bert_tokenclassification",
                                           "bert_questionanswering", "bert_maskedlm", "roberta_sequenceclassification",
                                           "roberta_tokenclassification", "roberta_questionanswering",
                                           "roberta_maskedlm"),
                         [](const auto& info) { return info.param; });
TEST_P(EncoderTask, LogitsEqualTheReference) {
  expect_reference(GetParam(), load_bert_task, [](const BertTask& model, const json& e) {
    return model(matrix(e["ids"]), matrix(e["mask"]), optional_matrix(e, "types"));
  });
}

class WriterTask : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Tasks, WriterTask,
                         ::testing::Values("sequenceclassification", "tokenclassification", "questionanswering"),
                         [](const auto& info) { return info.param; });
TEST_P(WriterTask, LogitsEqualTheReference) {
  const auto run = [](const auto& model, const json& e) { return model(matrix(e["ids"])); };
  expect_reference("gpt2_" + GetParam(), load_gpt2_task, run);
  expect_reference("llama_" + GetParam(), load_llama_task, run);
}

TEST(ImageTasks, LogitsEqualTheReference) {
  const auto run = [](const auto& model, const json& e) {
    const auto size = e["size"].get<std::int64_t>();
    return model(from_vector(e["images"].get<std::vector<float>>(), {2, 3, size, size}));
  };
  expect_reference("vit_classifier", load_vit_for_image_classification, run);
  expect_reference("resnet_bottleneck", load_resnet_for_image_classification, run);
  expect_reference("resnet_early", load_resnet_for_image_classification, run);
  expect_reference("resnet_basic", load_resnet, run);
}

TEST(TaskModels, LabelsHaveTheirNames) {
  EXPECT_THAT(load_bert_task(kGoldens / "bert_sequenceclassification").labels, ElementsAre("bad", "fair", "good"));
  EXPECT_THAT(load_vit_for_image_classification(kGoldens / "vit_classifier").labels,
              ElementsAre("bad", "fair", "good"));
  EXPECT_THAT(load_resnet_for_image_classification(kGoldens / "resnet_early").labels,
              ElementsAre("bad", "fair", "good"));
}

TEST(TaskModels, FoldersOfOtherModelsAreRefused) {
  EXPECT_THAT(error_text<UnsupportedError>([] { (void)load_t5(kGoldens / "bert"); }),
              HasSubstr("'model_type' is 'bert'; expected t5"));
  EXPECT_THAT(error_text<UnsupportedError>([] { (void)load_bert_task(kGoldens / "bert"); }),
              HasSubstr("'BertModel' is no model of a task; expected …ForSequenceClassification"));
  EXPECT_THAT(error_text<UnsupportedError>([] { (void)load_resnet(kGoldens / "vit"); }),
              HasSubstr("'model_type' is 'vit'; expected resnet"));
  EXPECT_THAT(error_text<ValueError>([] { (void)load_resnet_for_image_classification(kGoldens / "resnet_basic"); }),
              HasSubstr("the weights lack 'classifier.1.weight'"));
  EXPECT_THAT(error_text<ValueError>([] { (void)load_t5_for_token_classification(kGoldens / "t5_encoder"); }),
              HasSubstr("the weights lack 'classifier.weight'"));
  EXPECT_THAT(error_text<ValueError>([] {
                (void)GPT2Task({.vocab_size = 4, .n_embd = 4, .n_layer = 1, .n_head = 1}, TextTask::MaskedLM, 2,
                               "gpt2");
              }),
              HasSubstr("GPT-2 has no masked words"));
  const fs::path folder = testing_support::temp_folder() + "/bad_t5";
  fs::create_directories(folder);
  write_file_atomic(folder / "config.json", R"({"model_type": "t5", "vocab_size": 9, "d_model": 8, "d_kv": 4, "d_ff": 8,
    "num_layers": 1, "num_heads": 2, "relative_attention_num_buckets": 7})");
  EXPECT_THAT(error_text<Error>([&] { (void)load_t5(folder); }), HasSubstr("no weights in the folder"));
  formats::save_checkpoint(folder, StateDict{{"shared.weight", zeros({9, 8})}});
  EXPECT_THAT(error_text<FormatError>([&] { (void)load_t5(folder); }), HasSubstr("an even number from 4"));
}

}  // namespace
}  // namespace tenon::models
