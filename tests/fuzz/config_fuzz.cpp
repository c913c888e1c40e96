#include <string_view>

#include "tenon/models/bert.h"
#include "tenon/models/gpt2.h"
#include "tenon/models/llama.h"
#include "tenon/models/residual_network.h"
#include "tenon/models/settings.h"
#include "tenon/models/t5.h"
#include "tenon/models/vit.h"
#include "tests/fuzz/fuzz.h"

// The configuration of a published model: every family's reader gives settings that hold together, or a typed error.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tenon;
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  const auto parsed = [&] { return models::Settings{text::parse_json(text, "input"), "input"}; };
  fuzz::run(data, size, [&](std::span<const std::byte>) {
    const models::BertConfig c = models::bert_config(parsed());
    fuzz::require(c.hidden_size % c.num_attention_heads == 0);
  });
  fuzz::run(data, size, [&](std::span<const std::byte>) {
    const models::GPT2Config c = models::gpt2_config(parsed());
    fuzz::require(c.n_embd % c.n_head == 0);
  });
  fuzz::run(data, size, [&](std::span<const std::byte>) {
    const models::LlamaConfig c = models::llama_config(parsed());
    fuzz::require(c.num_attention_heads % c.num_key_value_heads == 0 && c.head_dim % 2 == 0);
  });
  fuzz::run(data, size, [&](std::span<const std::byte>) {
    const models::T5Config c = models::t5_config(parsed());
    fuzz::require(c.num_heads > 0 && c.relative_attention_num_buckets % 2 == 0);
  });
  fuzz::run(data, size, [&](std::span<const std::byte>) {
    const models::ViTConfig c = models::vit_config(parsed());
    fuzz::require(c.hidden_size % c.num_attention_heads == 0 && c.patch_size <= c.image_size);
  });
  fuzz::run(data, size, [&](std::span<const std::byte>) {
    const models::ResidualConfig c = models::residual_config(parsed());
    fuzz::require(c.depths.size() == c.hidden_sizes.size());
  });
  return 0;
}
