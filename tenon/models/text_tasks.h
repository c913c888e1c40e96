// BERT, RoBERTa, GPT-2 and Llama with the head of a task, as published: BertForSequenceClassification,
// RobertaForMaskedLM, GPT2ForSequenceClassification, LlamaForTokenClassification and so on. One class for the encoders
// and one for the writers; which members there are depends on family and task, and their names are the file's.
//
//   auto model = models::load_bert_task("bert-base-sentiment");
//   Tensor logits = model(tokens, mask);                            // [N, labels]
//   std::string best = model.labels[argmax(logits[0]).item<int64_t>()];
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "tenon/models/bert.h"
#include "tenon/models/gpt2.h"
#include "tenon/models/llama.h"

namespace tenon::models {

enum class TextTask : uint8_t {
  SequenceClassification,  // [N, labels]
  TokenClassification,     // [N, length, labels]
  QuestionAnswering,       // [N, length, 2]: where the answer begins and where it ends
  MaskedLM,                // [N, length, vocabulary]
};
// "SequenceClassification", as it stands in the names of the classes.
[[nodiscard]] std::string name(TextTask task);

// ---- encoders ----
struct RobertaClassificationHead {
  nn::Linear dense, out_proj;
};
struct BertPredictionTransform {
  nn::Linear dense;
  nn::LayerNorm LayerNorm;
};
struct BertPredictions {
  Variable bias;  // the projection is the token table
  BertPredictionTransform transform;
};
struct BertPredictionHead {
  BertPredictions predictions;
};
struct RobertaPredictionHead {
  Variable bias;
  nn::Linear dense;
  nn::LayerNorm layer_norm;
};

class BertTask {
 public:
  // `labels`: how many; a question's answer always has two.
  BertTask(const BertConfig& config, TextTask task, int64_t labels);
  // As Bert's. The logits of the task.
  [[nodiscard]] Tensor operator()(const Tensor& tokens, const Tensor& attention_mask = {},
                                  const Tensor& type_ids = {}) const;
  [[nodiscard]] const Bert& body() const { return bert ? *bert : *roberta; }

  TextTask task;
  std::optional<Bert> bert, roberta;
  std::optional<std::variant<nn::Linear, RobertaClassificationHead>> classifier;
  std::optional<nn::Linear> qa_outputs;
  std::optional<BertPredictionHead> cls;
  std::optional<RobertaPredictionHead> lm_head;
  std::vector<std::string> labels;
  using Members = nn::Members<&BertTask::bert, &BertTask::roberta, &BertTask::classifier, &BertTask::qa_outputs,
                              &BertTask::cls, &BertTask::lm_head>;
};

// ---- writers ----
// A sequence's class is read off at its last token that is no padding.
template <class Body, class Config>
class CausalTask {
 public:
  // `type`: llama, mistral or qwen2; gpt2.
  CausalTask(const Config& config, TextTask task, int64_t labels, std::string type);
  // Logits; token numbers [N, length].
  [[nodiscard]] Tensor operator()(const Tensor& tokens) const;

  Config config;
  TextTask task;
  std::string type;
  int64_t padding_token = -1;              // -1: there is none
  std::optional<Body> model, transformer;  // one of them, as the published names have it
  std::optional<nn::Linear> score, classifier, qa_outputs;
  std::vector<std::string> labels;
  using Members = nn::Members<&CausalTask::model, &CausalTask::transformer, &CausalTask::score, &CausalTask::classifier,
                              &CausalTask::qa_outputs>;
};
using GPT2Task = CausalTask<GPT2Model, GPT2Config>;
using LlamaTask = CausalTask<LlamaModel, LlamaConfig>;
template <>
GPT2Task::CausalTask(const GPT2Config& config, TextTask task, int64_t labels, std::string type);
template <>
LlamaTask::CausalTask(const LlamaConfig& config, TextTask task, int64_t labels, std::string type);

// As the functions of pretrained.h. The task is what config.json calls the architecture.
[[nodiscard]] BertTask load_bert_task(const std::filesystem::path& folder);
[[nodiscard]] GPT2Task load_gpt2_task(const std::filesystem::path& folder);
[[nodiscard]] LlamaTask load_llama_task(const std::filesystem::path& folder);
void save_pretrained(const BertTask& model, const std::filesystem::path& folder);
void save_pretrained(const GPT2Task& model, const std::filesystem::path& folder);
void save_pretrained(const LlamaTask& model, const std::filesystem::path& folder);

}  // namespace tenon::models
