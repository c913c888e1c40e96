#include "tenon/models/pretrained.h"

#include <fmt/format.h>

#include <memory>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/formats/checkpoint.h"
#include "tenon/models/settings.h"
#include "tenon/nn/init.h"
#include "tenon/nn/module.h"
#include "tenon/text/value.h"

namespace tenon::models {
namespace {

using text::Object;
using text::Value;

constexpr int64_t kLargest = Settings::kLargest;
constexpr int64_t kMostLayers = Settings::kMostLayers;

bool is_file(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

RotaryOptions rotary_of(const Settings& settings, int64_t head_dim) {
  RotaryOptions options{.head_width = head_dim, .theta = settings.real("rope_theta", 10000)};
  // Newer files keep all of it in rope_parameters, older ones the scaling alone in rope_scaling.
  const Value* found = text::find_field(settings.values, "rope_parameters");
  if (found == nullptr) found = text::find_field(settings.values, "rope_scaling");
  if (found == nullptr) return options;
  const Settings scaling{*found, settings.where};
  options.theta = scaling.real("rope_theta", options.theta);
  const std::string type = scaling.string("rope_type", scaling.string("type", "default"));
  if (type == "default") return options;
  options.factor = scaling.real("factor", 1);
  if (type == "linear") {
    options.scaling = RotaryOptions::Scaling::Linear;
  } else if (type == "llama3") {
    options.scaling = RotaryOptions::Scaling::Llama3;
    options.low_frequency_factor = scaling.real("low_freq_factor", 1);
    options.high_frequency_factor = scaling.real("high_freq_factor", 4);
    options.original_context = scaling.count("original_max_position_embeddings", 8192);
  } else {
    throw UnsupportedError({.where = settings.where,
                            .problem = fmt::format("rotary scaling of type '{}'", type),
                            .expected = "default, linear or llama3"});
  }
  return options;
}

// One number, or a list of them.
std::vector<int64_t> tokens_field(const Settings& s, std::string_view name) {
  const Value* found = text::find_field(s.values, name);
  if (found == nullptr) return {};
  if (!found->is_list()) return {text::as_count(*found, name, kLargest, s.where)};
  std::vector<int64_t> tokens;
  for (const auto& token : found->list()) tokens.push_back(text::as_count(token, name, kLargest, s.where));
  return tokens;
}

void read_generation(const std::filesystem::path& folder, const Settings& config, CausalFolder& result) {
  const auto path = folder / "generation_config.json";
  const Settings s = is_file(path) ? read_settings(path) : config;
  GenerateOptions& g = result.generation;
  g.temperature = s.flag("do_sample", false) ? s.real("temperature", 1) : 0;
  g.top_k = s.count("top_k", 0);
  g.top_p = s.real("top_p", 1);
  g.repetition_penalty = s.real("repetition_penalty", 1);
  g.end_tokens = tokens_field(s, "eos_token_id");
  const auto begin = tokens_field(s, "bos_token_id");
  if (!begin.empty()) result.begin_token = begin[0];
}

}  // namespace

LlamaConfig llama_config(const Settings& s) {
  const std::string type = s.string("model_type", "llama");
  if (type != "llama" && type != "mistral" && type != "qwen2")
    throw UnsupportedError({.where = s.where,
                            .problem = fmt::format("'{}' is not of the Llama family", type),
                            .expected = "llama, mistral or qwen2"});
  s.require("hidden_act", {"silu"});
  LlamaConfig c;
  c.vocab_size = s.size("vocab_size");
  c.hidden_size = s.size("hidden_size");
  c.intermediate_size = s.size("intermediate_size");
  c.num_hidden_layers = s.size("num_hidden_layers", kMostLayers);
  c.num_attention_heads = s.size("num_attention_heads");
  c.num_key_value_heads = s.count("num_key_value_heads", c.num_attention_heads);
  c.head_dim = s.count("head_dim", c.hidden_size / c.num_attention_heads);
  if (c.num_key_value_heads < 1 || c.num_attention_heads % c.num_key_value_heads != 0)
    text::fail_field(s.where, "num_key_value_heads", "a divisor of num_attention_heads",
                     text::find_field(s.values, "num_key_value_heads"));
  if (c.head_dim < 2 || c.head_dim % 2 != 0)
    text::fail_field(s.where, "head_dim", "an even number", text::find_field(s.values, "head_dim"));
  c.max_position_embeddings = s.count("max_position_embeddings", 2048);
  c.rms_norm_eps = s.real("rms_norm_eps", 1e-6);
  c.qkv_bias = s.flag("attention_bias", type == "qwen2");
  c.output_bias = type == "llama" && c.qkv_bias;
  c.mlp_bias = s.flag("mlp_bias", false);
  c.tie_word_embeddings = s.flag("tie_word_embeddings", false);
  if (type == "mistral" || (type == "qwen2" && s.flag("use_sliding_window", false)))
    c.sliding_window = s.count("sliding_window", 0);
  if (type == "qwen2" && c.sliding_window > 0 &&
      s.count("max_window_layers", c.num_hidden_layers) < c.num_hidden_layers)
    throw UnsupportedError({.where = s.where, .problem = "windows in some layers only"});
  c.rotary = rotary_of(s, c.head_dim);
  return c;
}

GPT2Config gpt2_config(const Settings& s) {
  s.require("model_type", {"gpt2"});
  s.require("activation_function", {"gelu_new", "gelu_pytorch_tanh"});
  GPT2Config c;
  c.vocab_size = s.size("vocab_size");
  c.n_positions = s.count("n_positions", 1024);
  c.n_embd = s.size("n_embd");
  c.n_layer = s.size("n_layer", kMostLayers);
  c.n_head = s.size("n_head");
  c.n_inner = s.count("n_inner", 0);
  c.layer_norm_epsilon = s.real("layer_norm_epsilon", 1e-5);
  if (c.n_embd % c.n_head != 0)
    text::fail_field(s.where, "n_head", "a divisor of n_embd", text::find_field(s.values, "n_head"));
  return c;
}

BertConfig bert_config(const Settings& s) {
  s.require("model_type", {"bert", "roberta"});
  s.require("hidden_act", {"gelu"});
  s.require("position_embedding_type", {"absolute"});
  BertConfig c;
  c.vocab_size = s.size("vocab_size");
  c.hidden_size = s.size("hidden_size");
  c.num_hidden_layers = s.size("num_hidden_layers", kMostLayers);
  c.num_attention_heads = s.size("num_attention_heads");
  c.intermediate_size = s.size("intermediate_size");
  c.max_position_embeddings = s.size("max_position_embeddings");
  c.type_vocab_size = s.count("type_vocab_size", 2);
  c.layer_norm_eps = s.real("layer_norm_eps", 1e-12);
  if (s.string("model_type", "bert") == "roberta") {
    c.padding_token = s.count("pad_token_id", 1);
    c.first_position = c.padding_token + 1;
  }
  if (c.hidden_size % c.num_attention_heads != 0)
    text::fail_field(s.where, "num_attention_heads", "a divisor of hidden_size",
                     text::find_field(s.values, "num_attention_heads"));
  return c;
}

std::string model_type(const std::filesystem::path& folder) {
  const Settings s = read_settings(folder / "config.json");
  return text::as_string(text::get_field(s.values, "model_type", s.where), "model_type", s.where);
}

Llama load_llama(const std::filesystem::path& folder) {
  const nn::init::WithoutValues values_come_from_the_file;
  Llama model(llama_config(read_settings(folder / "config.json")));
  StateDict weights = weights_of(folder, "", {".rotary_emb.inv_freq"});
  if (model.config.tie_word_embeddings) weights.erase("lm_head.weight");
  nn::load_state_dict(model, weights);
  return model;
}

GPT2 load_gpt2(const std::filesystem::path& folder) {
  const nn::init::WithoutValues values_come_from_the_file;
  GPT2 model(gpt2_config(read_settings(folder / "config.json")));
  StateDict weights = weights_of(folder, "transformer.", {".attn.bias", ".attn.masked_bias"});
  weights.erase("lm_head.weight");
  nn::load_state_dict(model.transformer, weights);
  return model;
}

Bert load_bert(const std::filesystem::path& folder) {
  const nn::init::WithoutValues values_come_from_the_file;
  const Settings settings = read_settings(folder / "config.json");
  BertConfig config = bert_config(settings);
  const bool roberta = settings.string("model_type", "bert") == "roberta";
  StateDict all = weights_of(folder, roberta ? "roberta." : "bert.", {"position_ids"});
  config.pooler = all.contains("pooler.dense.weight");
  // The heads of other tasks are not this model's.
  StateDict weights;
  for (const auto& [name, tensor] : all)
    if (name.starts_with("embeddings.") || name.starts_with("encoder.") || name.starts_with("pooler."))
      weights.set(name, tensor);
  Bert model(config);
  nn::load_state_dict(model, weights);
  return model;
}

Object config_of(const LlamaConfig& c, const std::string& type) {
  const std::string name = type == "mistral" ? "Mistral" : type == "qwen2" ? "Qwen2" : "Llama";
  Object config{{"architectures", text::List{name + "ForCausalLM"}},
                {"model_type", type},
                {"vocab_size", c.vocab_size},
                {"hidden_size", c.hidden_size},
                {"intermediate_size", c.intermediate_size},
                {"num_hidden_layers", c.num_hidden_layers},
                {"num_attention_heads", c.num_attention_heads},
                {"num_key_value_heads", c.num_key_value_heads},
                {"head_dim", c.head_dim},
                {"max_position_embeddings", c.max_position_embeddings},
                {"hidden_act", "silu"},
                {"rms_norm_eps", c.rms_norm_eps},
                {"attention_bias", c.qkv_bias},
                {"mlp_bias", c.mlp_bias},
                {"tie_word_embeddings", c.tie_word_embeddings},
                {"rope_theta", c.rotary.theta},
                {"torch_dtype", "float32"}};
  if (c.sliding_window > 0) config.emplace_back("sliding_window", c.sliding_window);
  if (c.rotary.scaling == RotaryOptions::Scaling::Linear)
    config.emplace_back("rope_scaling", Object{{"rope_type", "linear"}, {"factor", c.rotary.factor}});
  if (c.rotary.scaling == RotaryOptions::Scaling::Llama3)
    config.emplace_back("rope_scaling", Object{{"rope_type", "llama3"},
                                               {"factor", c.rotary.factor},
                                               {"low_freq_factor", c.rotary.low_frequency_factor},
                                               {"high_freq_factor", c.rotary.high_frequency_factor},
                                               {"original_max_position_embeddings", c.rotary.original_context}});
  return config;
}

void save_pretrained(const Llama& model, const std::filesystem::path& folder, const std::string& type) {
  formats::save_checkpoint(folder, nn::state_dict(model));
  write_config(folder, config_of(model.config, type));
}

Object config_of(const GPT2Config& c) {
  Object config{{"architectures", text::List{"GPT2LMHeadModel"}},
                {"model_type", "gpt2"},
                {"vocab_size", c.vocab_size},
                {"n_positions", c.n_positions},
                {"n_embd", c.n_embd},
                {"n_layer", c.n_layer},
                {"n_head", c.n_head},
                {"activation_function", "gelu_new"},
                {"layer_norm_epsilon", c.layer_norm_epsilon},
                {"torch_dtype", "float32"}};
  if (c.n_inner > 0) config.emplace_back("n_inner", c.n_inner);
  return config;
}

void save_pretrained(const GPT2& model, const std::filesystem::path& folder) {
  formats::save_checkpoint(folder, nn::state_dict(model));
  write_config(folder, config_of(model.config));
}

Object config_of(const BertConfig& c) {
  const bool roberta = c.padding_token >= 0;
  Object config{{"architectures", text::List{roberta ? "RobertaModel" : "BertModel"}},
                {"model_type", roberta ? "roberta" : "bert"},
                {"vocab_size", c.vocab_size},
                {"hidden_size", c.hidden_size},
                {"num_hidden_layers", c.num_hidden_layers},
                {"num_attention_heads", c.num_attention_heads},
                {"intermediate_size", c.intermediate_size},
                {"max_position_embeddings", c.max_position_embeddings},
                {"type_vocab_size", c.type_vocab_size},
                {"hidden_act", "gelu"},
                {"layer_norm_eps", c.layer_norm_eps},
                {"torch_dtype", "float32"}};
  if (roberta) config.emplace_back("pad_token_id", c.padding_token);
  return config;
}

void save_pretrained(const Bert& model, const std::filesystem::path& folder) {
  formats::save_checkpoint(folder, nn::state_dict(model));
  write_config(folder, config_of(model.config));
}

CausalFolder load_causal(const std::filesystem::path& folder) {
  const Settings settings = read_settings(folder / "config.json");
  CausalFolder result;
  result.type = model_type(folder);
  if (result.type == "gpt2") {
    const auto model = std::make_shared<const GPT2>(load_gpt2(folder));
    result.vocabulary = model->config.vocab_size;
    result.model = [model](const Tensor& tokens, KeyValueCache* cache) { return (*model)(tokens, cache); };
  } else {
    const auto model = std::make_shared<const Llama>(load_llama(folder));
    result.vocabulary = model->config.vocab_size;
    result.model = [model](const Tensor& tokens, KeyValueCache* cache) { return (*model)(tokens, cache); };
  }
  read_generation(folder, settings, result);
  for (const char* file : {"tokenizer.json", "tokenizer.model", "vocab.json"})
    if (is_file(folder / file)) {
      result.tokenizer = text::load_tokenizer(folder);
      break;
    }
  return result;
}

}  // namespace tenon::models
