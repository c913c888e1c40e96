// Folders of published models: config.json, weights in SafeTensors (one file or shards), tokenizer,
// generation_config.json.
//
//   auto writer = models::load_causal("llama");                       // Llama, Mistral, Qwen2, GPT-2
//   auto ids = models::generate(writer.model, writer.tokenizer->encode("Once").ids, writer.generation);
//   models::Bert bert = models::load_bert("bert-base");               // BERT, RoBERTa
//
// What is saved can be read by the software that such folders come from. To add a family: its model file, a reader of
// its configuration and a line in load_causal, or functions like Bert's.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "tenon/models/bert.h"
#include "tenon/models/causal.h"
#include "tenon/models/gpt2.h"
#include "tenon/models/llama.h"
#include "tenon/models/pretrained_folder.h"
#include "tenon/text/tokenizer.h"

namespace tenon::models {

// "llama", "gpt2", …. Errors: FileError, FormatError.
[[nodiscard]] std::string model_type(const std::filesystem::path& folder);

// Errors of the loaders: FileError, FormatError (a damaged file), UnsupportedError (a model type or a setting that is
// not to be had), ValueError (weights that are missing or do not fit).
[[nodiscard]] Llama load_llama(const std::filesystem::path& folder);
[[nodiscard]] GPT2 load_gpt2(const std::filesystem::path& folder);
[[nodiscard]] Bert load_bert(const std::filesystem::path& folder);

// Weights and config.json; a tokenizer's files are the caller's to copy.
void save_pretrained(const Llama& model, const std::filesystem::path& folder, const std::string& type = "llama");
void save_pretrained(const GPT2& model, const std::filesystem::path& folder);
void save_pretrained(const Bert& model, const std::filesystem::path& folder);

// A language model of any family that writes, with what stands beside it.
struct CausalFolder {
  std::string type;
  CausalModel model;
  GenerateOptions generation;  // from generation_config.json; greedy unless it says do_sample
  std::optional<text::Tokenizer> tokenizer;
  std::optional<int64_t> begin_token;  // of an empty text
  int64_t vocabulary = 0;
};
[[nodiscard]] CausalFolder load_causal(const std::filesystem::path& folder);

}  // namespace tenon::models
