// Reading and writing config.json, for the families of published models.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/tensor/state_dict.h"
#include "tenon/text/value.h"

namespace tenon::models {

// A configuration with its file's name, for errors.
struct Settings {
  static constexpr int64_t kLargest = int64_t{1} << 32;
  static constexpr int64_t kMostLayers = 4096;

  text::Value values;
  std::string where;

  [[nodiscard]] int64_t count(std::string_view name, int64_t fallback, int64_t most = kLargest) const;
  // At least 1, and required.
  [[nodiscard]] int64_t size(std::string_view name, int64_t most = kLargest) const;
  [[nodiscard]] double real(std::string_view name, double fallback) const;
  [[nodiscard]] bool flag(std::string_view name, bool fallback) const;
  [[nodiscard]] std::string string(std::string_view name, std::string fallback) const;
  // Sizes, each at least 1.
  [[nodiscard]] std::vector<int64_t> sizes(std::string_view name, const std::vector<int64_t>& fallback) const;
  // The first of "architectures", or "".
  [[nodiscard]] std::string architecture() const;
  // The names of the labels, "id2label", in order.
  [[nodiscard]] std::vector<std::string> labels() const;
  // Errors: UnsupportedError unless the setting is one of these, or absent.
  void require(std::string_view name, std::initializer_list<std::string_view> accepted) const;
  // Errors: FormatError unless the first setting divides the second.
  void divides(std::string_view part, int64_t divisor, std::string_view whole, int64_t dividend) const;
};

// Errors: FileError, FormatError.
[[nodiscard]] Settings read_settings(const std::filesystem::path& path);
void write_config(const std::filesystem::path& folder, text::Object config);
// "id2label" and "label2id". Without names, `count` labels called LABEL_0 and so on.
void add_labels(text::Object& config, std::vector<std::string> labels, int64_t count);

// The weights, less what is not the model's: buffers of old files, and `prefix` in front of the names.
[[nodiscard]] StateDict weights_of(const std::filesystem::path& folder, std::string_view prefix,
                                   std::initializer_list<std::string_view> ignored_endings);

// Of the families, both ways.
struct BertConfig;
struct GPT2Config;
struct LlamaConfig;
struct T5Config;
struct ViTConfig;
struct ResidualConfig;
[[nodiscard]] BertConfig bert_config(const Settings& s);
[[nodiscard]] GPT2Config gpt2_config(const Settings& s);
[[nodiscard]] LlamaConfig llama_config(const Settings& s);
[[nodiscard]] T5Config t5_config(const Settings& s);
[[nodiscard]] ViTConfig vit_config(const Settings& s);
[[nodiscard]] ResidualConfig residual_config(const Settings& s);
[[nodiscard]] text::Object config_of(const BertConfig& c);
[[nodiscard]] text::Object config_of(const GPT2Config& c);
[[nodiscard]] text::Object config_of(const LlamaConfig& c, const std::string& type);

}  // namespace tenon::models
