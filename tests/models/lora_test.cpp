// LoRA adapters against the peft package (goldens written by tools/goldens/lora_adapters.py).
#include "tenon/models/lora.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/models/pretrained.h"
#include "tests/models/support.h"
#include "tests/support/temp_folder.h"

namespace tenon::models {
namespace {

using nlohmann::json;

void expect_logits(const CausalModel& model, const json& expected) {
  const auto ids = expected["ids"][0].get<std::vector<std::int64_t>>();
  expect_close(model(from_vector(ids, {1, static_cast<std::int64_t>(ids.size())}), nullptr), expected["logits"]);
}

TEST(Lora, MergedIntoLlamaItComputesTheSame) {
  const json expected = json::parse(read_text_file(kGoldens / "lora_llama/expected.json"));
  const LoraAdapter adapter = load_lora(kGoldens / "lora_llama");
  EXPECT_EQ(adapter.rank, 3);
  EXPECT_EQ(adapter.modules.size(), 6U);
  const std::string again = testing_support::temp_folder() + "/adapter";
  save_lora(adapter, again);
  for (const LoraAdapter& one : {adapter, load_lora(again)}) {
    const Llama model = load_llama(kGoldens / "llama");
    merge(one, model);
    expect_logits([&](const Tensor& ids, KeyValueCache* cache) { return model(ids, cache); }, expected);
  }
}

TEST(Lora, MergedIntoGpt2ItComputesTheSame) {
  const GPT2 model = load_gpt2(kGoldens / "gpt2");
  merge(load_lora(kGoldens / "lora_gpt2"), model);
  expect_logits([&](const Tensor& ids, KeyValueCache* cache) { return model(ids, cache); },
                json::parse(read_text_file(kGoldens / "lora_gpt2/expected.json")));
}

TEST(Lora, AnAdapterOfAnotherModelIsRefused) {
  const Llama model = load_llama(kGoldens / "llama");
  try {
    merge(load_lora(kGoldens / "lora_gpt2"), model);
    FAIL() << "no error";
  } catch (const ValueError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("the model has no 'transformer.h.0.attn.c_attn'"));
  }
  EXPECT_THROW((void)load_lora(kGoldens / "llama"), FileError);
}

}  // namespace
}  // namespace tenon::models
