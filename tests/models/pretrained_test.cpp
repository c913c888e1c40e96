// Published model families against transformers (goldens), and a real trained model against its known text.
#include "tenon/models/pretrained.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/formats/checkpoint.h"
#include "tenon/models/residual_network.h"
#include "tenon/models/t5.h"
#include "tenon/models/vit.h"
#include "tenon/nn/module.h"
#include "tenon/ops/movement.h"
#include "tenon/tensor/buffer.h"
#include "tests/models/support.h"
#include "tests/support/error_text.h"
#include "tests/support/temp_folder.h"

namespace tenon::models {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using testing_support::error_text;

class Causal : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, Causal, ::testing::Values("llama", "llama3", "mistral", "qwen2", "gpt2"),
                         [](const auto& info) { return info.param; });

TEST_P(Causal, LogitsAndGreedyTextEqualTheReference) {
  const json expected = expected_of(GetParam());
  const CausalFolder folder = load_causal(kGoldens / GetParam());
  const Tensor ids = matrix(expected["ids"]);
  const Tensor logits = folder.model(ids, nullptr);
  EXPECT_EQ(logits.shape(), (Shape{2, 9, 40}));
  expect_close(logits, expected["logits"], 1e-4);
  GenerateOptions options = folder.generation;
  EXPECT_EQ(options.temperature, 0);
  options.end_tokens.clear();
  options.max_new_tokens = 20;
  EXPECT_EQ(json(generate(folder.model, expected["ids"][0].get<std::vector<std::int64_t>>(), options)),
            expected["greedy"]);
}

// A token at a time, or all at once: the cache changes nothing.
TEST_P(Causal, TheCacheHoldsWhatWasRead) {
  const json expected = expected_of(GetParam());
  const CausalFolder folder = load_causal(kGoldens / GetParam());
  const Tensor ids = matrix(expected["ids"]);
  KeyValueCache cache;
  Tensors parts;
  parts.push_back(folder.model(narrow(ids, 1, 0, 4), &cache));
  for (std::int64_t i = 4; i < 9; ++i) parts.push_back(folder.model(narrow(ids, 1, i, 1), &cache));
  EXPECT_EQ(cache.length(), 9);
  expect_close(concat(parts, 1), expected["logits"], 1e-4);
}

TEST_P(Causal, WhatIsSavedLoadsAsTheSame) {
  const std::filesystem::path saved = testing_support::temp_folder() + "/saved/" + GetParam();
  if (GetParam() == "gpt2") {
    save_pretrained(load_gpt2(kGoldens / GetParam()), saved);
  } else {
    save_pretrained(load_llama(kGoldens / GetParam()), saved, GetParam() == "llama3" ? "llama" : GetParam());
  }
  const json expected = expected_of(GetParam());
  expect_close(load_causal(saved).model(matrix(expected["ids"]), nullptr), expected["logits"], 1e-4);
  // The same names as the file that it came from.
  auto before = formats::load_checkpoint(kGoldens / GetParam()).keys(), after = formats::load_checkpoint(saved).keys();
  std::erase(before, "lm_head.weight"), std::erase(after, "lm_head.weight");
  std::sort(before.begin(), before.end()), std::sort(after.begin(), after.end());
  EXPECT_EQ(before, after);
  // TENON_KEEP_SAVED=FOLDER keeps them, for tools/goldens/pretrained_models.py --check FOLDER.
  if (const char* keep = std::getenv("TENON_KEEP_SAVED"))
    std::filesystem::copy(saved, std::filesystem::path(keep) / GetParam(),
                          std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing);
}

class Encoder : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, Encoder, ::testing::Values("bert", "roberta"),
                         [](const auto& info) { return info.param; });

TEST_P(Encoder, HiddenStatesEqualTheReference) {
  const json expected = expected_of(GetParam());
  const Bert loaded = load_bert(kGoldens / GetParam());
  const std::filesystem::path saved = testing_support::temp_folder() + "/saved/" + GetParam();
  save_pretrained(loaded, saved);
  if (const char* keep = std::getenv("TENON_KEEP_SAVED"))
    std::filesystem::copy(saved, std::filesystem::path(keep) / GetParam(),
                          std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing);
  for (const Bert& model : {loaded, load_bert(saved)}) {
    const auto [hidden, pooled] = model(matrix(expected["ids"]), matrix(expected["mask"]), matrix(expected["types"]));
    expect_close(hidden, expected["hidden"], 1e-4);
    expect_close(pooled, expected["pooled"], 1e-4);
  }
}

TEST(VisionTransformer, HiddenStatesEqualTheReference) {
  const json expected = expected_of("vit");
  const ViT loaded = load_vit(kGoldens / "vit");
  const std::filesystem::path saved = testing_support::temp_folder() + "/saved/vit";
  save_pretrained(loaded, saved);
  const Tensor images = from_vector(expected["images"].get<std::vector<float>>(), {2, 3, 8, 8});
  for (const ViT& model : {loaded, load_vit(saved)}) {
    const auto [hidden, pooled] = model(images);
    EXPECT_EQ(hidden.shape(), (Shape{2, 5, 16}));
    expect_close(hidden, expected["hidden"], 1e-4);
    expect_close(pooled, expected["pooled"], 1e-4);
  }
  EXPECT_EQ(formats::load_checkpoint(saved).size(), formats::load_checkpoint(kGoldens / "vit").size());
  EXPECT_THROW((void)load_vit(kGoldens / "bert"), UnsupportedError);
}

TEST(Pretrained, ShardsAreOneModel) {
  const Llama model = load_llama(kGoldens / "mistral");  // it lies there in two shards
  const std::filesystem::path folder = testing_support::temp_folder() + "/shards";
  const StateDict weights = nn::state_dict(model);
  formats::save_checkpoint(folder, weights, 4000);
  EXPECT_FALSE(std::filesystem::exists(folder / "model.safetensors"));
  const StateDict again = formats::load_checkpoint(folder);
  ASSERT_EQ(again.size(), weights.size());
  for (const auto& [name, tensor] : weights) EXPECT_EQ(again.at(name).to_vector(), tensor.to_vector()) << name;
  formats::save_checkpoint(folder, weights);
  EXPECT_TRUE(std::filesystem::exists(folder / "model.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(folder / "model.safetensors.index.json"));
}

// A few bytes of settings that ask for terabytes: the weights beside them are compared before anything is made.
TEST(Pretrained, SizesThatTheWeightsHaveNotCostNothing) {
  const std::filesystem::path folder = testing_support::temp_folder() + "/greedy";
  std::filesystem::create_directories(folder);
  formats::save_checkpoint(folder, StateDict{{"x", from_vector(std::vector<float>{1}, {1})}});
  const auto expect_refused = [&](const std::string& config, const auto& load) {
    write_file_atomic(folder / "config.json", config);
    reset_peak_memory();
    const std::int64_t before = memory_stats().current;
    EXPECT_THAT(error_text<Error>([&] { (void)load(folder); }), HasSubstr("the weights do not fit the model"));
    EXPECT_LT(memory_stats().peak - before, 1 << 20) << config;
  };
  expect_refused(
      R"({"model_type": "llama", "vocab_size": 2147483648, "hidden_size": 1048576, "intermediate_size": 4194304,
    "num_hidden_layers": 40, "num_attention_heads": 64})",
      load_llama);
  expect_refused(R"({"model_type": "gpt2", "vocab_size": 2147483648, "n_positions": 1048576, "n_embd": 1048576,
    "n_layer": 40, "n_head": 64})",
                 load_gpt2);
  expect_refused(
      R"({"model_type": "bert", "vocab_size": 2147483648, "hidden_size": 1048576, "intermediate_size": 4194304,
    "num_hidden_layers": 40, "num_attention_heads": 64, "max_position_embeddings": 1048576})",
      load_bert);
  expect_refused(R"({"model_type": "t5", "vocab_size": 2147483648, "d_model": 1048576, "d_kv": 1024, "d_ff": 4194304,
    "num_layers": 40, "num_heads": 64})",
                 load_t5);
  expect_refused(R"({"model_type": "vit", "hidden_size": 1048576, "num_attention_heads": 64, "image_size": 65536,
    "patch_size": 2})",
                 load_vit);
  expect_refused(R"({"model_type": "resnet", "hidden_sizes": [1048576, 2097152], "depths": [3, 4]})", load_resnet);
}

TEST(Pretrained, BadFoldersAreTypedErrors) {
  const std::filesystem::path folder = testing_support::temp_folder() + "/bad";
  std::filesystem::create_directories(folder);
  const auto config = [&](const std::string& text) { write_file_atomic(folder / "config.json", text); };
  const auto load = [&] { (void)load_causal(folder); };
  EXPECT_FALSE(is_pretrained_folder(folder));
  EXPECT_THAT(error_text<FileError>(load), HasSubstr("config.json"));
  config("{");
  EXPECT_THAT(error_text<FormatError>(load), HasSubstr("not JSON"));
  config(R"({"model_type": "mamba"})");
  EXPECT_TRUE(is_pretrained_folder(folder));
  EXPECT_THAT(error_text<UnsupportedError>(load),
              HasSubstr("'mamba' is not of the Llama family; expected llama, mistral or qwen2"));
  config(R"({"model_type": "llama"})");
  EXPECT_THAT(error_text<FormatError>(load), HasSubstr("'vocab_size' is not as expected"));
  config(
      R"({"model_type": "llama", "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 99999, "num_attention_heads": 4})");
  EXPECT_THAT(error_text<FormatError>(load), HasSubstr("a whole number up to 4096"));
  config(
      R"({"model_type": "llama", "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4})");
  EXPECT_THAT(error_text<FileError>(load), HasSubstr("no weights in the folder"));
  write_file_atomic(folder / "model.safetensors.index.json", R"({"weight_map": {"a": "../secret.safetensors"}})");
  EXPECT_THAT(error_text<FormatError>(load), HasSubstr("not in the folder: '../secret.safetensors'"));
  std::filesystem::remove(folder / "model.safetensors.index.json");
  formats::save_checkpoint(folder, StateDict{{"model.norm.weight", from_vector(std::vector<float>(16), {16})}});
  EXPECT_THAT(error_text<ValueError>(load), HasSubstr("model.embed_tokens.weight"));
}

TEST(Generate, ChoosesAsItIsTold) {
  const std::vector<double> logits{0, 3, 2, 1};
  EXPECT_EQ(choose_token(logits, {}, {.temperature = 0}, 0.9), 1);
  EXPECT_EQ(choose_token(logits, {}, {.temperature = 1, .top_k = 1}, 0.99), 1);
  EXPECT_EQ(choose_token(logits, {}, {.temperature = 1, .top_k = 2}, 0.99), 2);
  EXPECT_EQ(choose_token(logits, {}, {.temperature = 1}, 0.999), 0);
  // The first has 64 % of the probability, the first two 88 %.
  EXPECT_EQ(choose_token(logits, {}, {.temperature = 1, .top_p = 0.5}, 0.999), 1);
  EXPECT_EQ(choose_token(logits, {}, {.temperature = 1, .top_p = 0.7}, 0.999), 2);
  EXPECT_EQ(choose_token(logits, {1}, {.temperature = 0, .repetition_penalty = 2}, 0), 2);
  EXPECT_THROW((void)generate([](const Tensor&, KeyValueCache*) { return Tensor(); }, {}, {}), ValueError);
}

// The weights of llama2.c's format: sizes, then every kind of matrix for all layers. Its heads hold the two coordinates
// that turn together side by side, where the published folders hold them in two halves.
void convert_llama2c(const std::filesystem::path& file, const std::filesystem::path& folder) {
  const auto bytes = read_file(file);
  std::int32_t sizes[7];
  std::memcpy(sizes, bytes.data(), sizeof sizes);
  const std::int64_t dim = sizes[0], hidden = sizes[1], layers = sizes[2], heads = sizes[3], kv_heads = sizes[4],
                     vocabulary = sizes[5], context = sizes[6], head = dim / heads;
  std::size_t at = sizeof sizes;
  const auto take = [&](const Shape& shape) {
    std::vector<float> values(static_cast<std::size_t>(numel(shape)));
    std::memcpy(values.data(), bytes.data() + at, values.size() * sizeof(float));
    at += values.size() * sizeof(float);
    return from_vector(values, shape);
  };
  StateDict weights;
  weights.set("model.embed_tokens.weight", take({vocabulary, dim}));
  const auto each = [&](const std::string& name, const Shape& shape, std::int64_t turning_heads = 0) {
    for (std::int64_t layer = 0; layer < layers; ++layer) {
      Tensor w = take(shape);
      if (turning_heads > 0)
        w = contiguous(reshape(transpose(reshape(w, {turning_heads, head / 2, 2, dim}), 1, 2), shape));
      weights.set("model.layers." + std::to_string(layer) + "." + name + ".weight", w);
    }
  };
  each("input_layernorm", {dim});
  each("self_attn.q_proj", {dim, dim}, heads);
  each("self_attn.k_proj", {kv_heads * head, dim}, kv_heads);
  each("self_attn.v_proj", {kv_heads * head, dim});
  each("self_attn.o_proj", {dim, dim});
  each("post_attention_layernorm", {dim});
  each("mlp.gate_proj", {hidden, dim});
  each("mlp.down_proj", {dim, hidden});
  each("mlp.up_proj", {hidden, dim});
  weights.set("model.norm.weight", take({dim}));
  formats::save_checkpoint(folder, weights, 200'000);
  const json config{{"model_type", "llama"},
                    {"vocab_size", vocabulary},
                    {"hidden_size", dim},
                    {"intermediate_size", hidden},
                    {"num_hidden_layers", layers},
                    {"num_attention_heads", heads},
                    {"num_key_value_heads", kv_heads},
                    {"max_position_embeddings", context},
                    {"rms_norm_eps", 1e-5},
                    {"tie_word_embeddings", true},
                    {"bos_token_id", 1}};
  write_file_atomic(folder / "config.json", config.dump());
}

TEST(Pretrained, ATrainedLlamaContinuesAsItIsKnownTo) {
  const std::filesystem::path source = TENON_SHARED_DATA "/stories260k/llama2_c/stories260K";
  if (!std::filesystem::exists(source)) GTEST_SKIP() << "the shared test data is not there";
  const std::filesystem::path folder = testing_support::temp_folder() + "/stories";
  convert_llama2c(source / "stories260K.bin", folder);
  std::filesystem::copy_file(source / "tok512.model", folder / "tokenizer.model");
  const CausalFolder stories = load_causal(folder);
  ASSERT_TRUE(stories.tokenizer && stories.begin_token == 1);
  GenerateOptions options = stories.generation;
  options.max_new_tokens = 200;
  const auto written = generate(stories.model, {1}, options);
  ASSERT_EQ(written.size(), 200U);
  EXPECT_EQ(
      stories.tokenizer->decode(written),
      "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw "
      "a big, red ball. She wanted to play with it, but it was too high.\n"
      "Lily's mom said, \"Lily, let's go to the park.\" Lily was sad and didn't know what to do. She said, \"I want to "
      "play with your ball, but I can't find it.\"\n"
      "Lily was sad and didn't know what to do. She said, \"I'm sorry, Lily. I didn't know what to do.\"\n"
      "Lily didn't want to help her mom, so she");
}

}  // namespace
}  // namespace tenon::models
