#include "tenon/models/text_tasks.h"

#include <array>

#include "tenon/base/error.h"
#include "tenon/formats/checkpoint.h"
#include "tenon/models/settings.h"
#include "tenon/nn/init.h"
#include "tenon/nn/module.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"

namespace tenon::models {
namespace {

constexpr std::array kTasks{TextTask::SequenceClassification, TextTask::TokenClassification,
                            TextTask::QuestionAnswering, TextTask::MaskedLM};

// Errors: UnsupportedError for an architecture that is no task.
TextTask task_of(const Settings& settings) {
  const std::string architecture = settings.architecture();
  for (const TextTask task : kTasks)
    if (architecture.ends_with("For" + name(task))) return task;
  throw UnsupportedError({.where = settings.where,
                          .problem = "'" + architecture + "' is no model of a task",
                          .expected = "…ForSequenceClassification, …ForTokenClassification, …ForQuestionAnswering or "
                                      "…ForMaskedLM"});
}

// The rows of the first of these weights that there is; 2 if there is none (MaskedLM, QuestionAnswering).
int64_t count_labels(const StateDict& weights, std::initializer_list<std::string_view> names) {
  for (const auto& one : names) {
    const Tensor* found = weights.find(one);
    if (found != nullptr && found->ndim() == 2) return found->shape(0);
  }
  return 2;
}

void rename_architecture(text::Object& config, const std::string& architecture) {
  for (auto& [key, value] : config)
    if (key == "architectures") value = text::List{architecture};
}

// [N, length, width] -> [N, width]: the row at this place of each.
Tensor row_at(const Tensor& x, const Tensor& places) {
  return squeeze(take_along_axis(x, unsqueeze(places, {1, 2}), 1), {1});
}

}  // namespace

std::string name(TextTask task) {
  switch (task) {
    case TextTask::SequenceClassification:
      return "SequenceClassification";
    case TextTask::TokenClassification:
      return "TokenClassification";
    case TextTask::QuestionAnswering:
      return "QuestionAnswering";
    case TextTask::MaskedLM:
      return "MaskedLM";
  }
  return {};
}

BertTask::BertTask(const BertConfig& given, TextTask t, int64_t count) : task(t) {
  const bool is_roberta = given.padding_token >= 0;
  BertConfig config = given;
  config.pooler = !is_roberta && task == TextTask::SequenceClassification;
  (is_roberta ? roberta : bert).emplace(config);
  const int64_t width = config.hidden_size;
  const nn::NormOptions norm{.epsilon = config.layer_norm_eps};
  if (task == TextTask::QuestionAnswering) {
    qa_outputs.emplace(width, 2);
  } else if (task == TextTask::MaskedLM && is_roberta) {
    lm_head.emplace(RobertaPredictionHead{
        Variable(nn::init::zeros({config.vocab_size})), {width, width}, nn::LayerNorm(width, norm)});
  } else if (task == TextTask::MaskedLM) {
    cls.emplace(BertPredictionHead{
        {Variable(nn::init::zeros({config.vocab_size})), {{width, width}, nn::LayerNorm(width, norm)}}});
  } else if (task == TextTask::SequenceClassification && is_roberta) {
    classifier.emplace(RobertaClassificationHead{{width, width}, {width, count}});
  } else {
    classifier.emplace(nn::Linear(width, count));
  }
}

Tensor BertTask::operator()(const Tensor& tokens, const Tensor& attention_mask, const Tensor& type_ids) const {
  const BertResult r = body()(tokens, attention_mask, type_ids);
  if (qa_outputs) return (*qa_outputs)(r.hidden);
  if (cls) {
    const auto& [bias, transform] = cls->predictions;
    const Tensor x = transform.LayerNorm(gelu(transform.dense(r.hidden)));
    return matmul(x, transpose(body().embeddings.word_embeddings.weight)) + bias;
  }
  if (lm_head) {
    const Tensor x = lm_head->layer_norm(gelu(lm_head->dense(r.hidden)));
    return matmul(x, transpose(body().embeddings.word_embeddings.weight)) + lm_head->bias;
  }
  if (const auto* head = std::get_if<RobertaClassificationHead>(&*classifier))
    return head->out_proj(tanh(head->dense(select(r.hidden, 1, 0))));
  const nn::Linear& project = std::get<nn::Linear>(*classifier);
  return project(task == TextTask::SequenceClassification ? r.pooled : r.hidden);
}

template <>
GPT2Task::CausalTask(const GPT2Config& given, TextTask t, int64_t count, std::string kind)
    : config(given), task(t), type(std::move(kind)) {
  transformer.emplace(config);
  if (task == TextTask::SequenceClassification) score.emplace(config.n_embd, count, nn::LinearOptions{.bias = false});
  if (task == TextTask::TokenClassification) classifier.emplace(config.n_embd, count);
  if (task == TextTask::QuestionAnswering) qa_outputs.emplace(config.n_embd, 2);
  if (task == TextTask::MaskedLM) throw ValueError({.where = "GPT2Task", .problem = "GPT-2 has no masked words"});
}

template <>
LlamaTask::CausalTask(const LlamaConfig& given, TextTask t, int64_t count, std::string kind)
    : config(given), task(t), type(std::move(kind)) {
  (task == TextTask::QuestionAnswering ? transformer : model).emplace(config);
  if (task == TextTask::QuestionAnswering) {
    qa_outputs.emplace(config.hidden_size, 2);
  } else if (task == TextTask::MaskedLM) {
    throw ValueError({.where = "LlamaTask", .problem = "Llama has no masked words"});
  } else {
    score.emplace(config.hidden_size, count, nn::LinearOptions{.bias = task == TextTask::TokenClassification});
  }
}

template <class Body, class Config>
Tensor CausalTask<Body, Config>::operator()(const Tensor& tokens) const {
  const Tensor hidden = (model ? *model : *transformer)(tokens);
  if (qa_outputs) return (*qa_outputs)(hidden);
  Tensor logits = (score ? *score : *classifier)(hidden);
  if (task == TextTask::TokenClassification) return logits;
  const int64_t length = tokens.shape(1);
  if (padding_token < 0) {
    if (tokens.shape(0) != 1)
      throw ValueError({.where = "CausalTask",
                        .problem = "several texts, and the model has no padding token",
                        .hint = "set padding_token, or give one text at a time"});
    return select(logits, 1, length - 1);
  }
  const Tensor real = not_equal(tokens, Tensor(padding_token));
  return row_at(logits, max(where(real, unsqueeze(arange(length), {0}), 0), {1}));
}
template class CausalTask<GPT2Model, GPT2Config>;
template class CausalTask<LlamaModel, LlamaConfig>;

BertTask load_bert_task(const std::filesystem::path& folder) {
  const nn::init::WithoutValues values_come_from_the_file;
  const Settings settings = read_settings(folder / "config.json");
  const TextTask task = task_of(settings);
  if (task == TextTask::MaskedLM && !settings.flag("tie_word_embeddings", true))
    throw UnsupportedError({.where = settings.where, .problem = "an output projection that is not the token table"});
  // A masked model's file may repeat the token table and the bias of its output.
  const StateDict weights = weights_of(
      folder, "",
      {"position_ids", ".decoder.weight", ".decoder.bias", "seq_relationship.weight", "seq_relationship.bias"});
  BertTask model(bert_config(settings), task,
                 count_labels(weights, {"classifier.weight", "classifier.out_proj.weight"}));
  StateDict kept;
  for (const auto& [key, tensor] : weights) {
    const bool pooler = key.find(".pooler.") != std::string::npos;
    if (!pooler || model.body().config.pooler) kept.set(key, tensor);  // some files carry one that nothing uses
  }
  nn::load_state_dict(model, kept);
  model.labels = settings.labels();
  return model;
}

GPT2Task load_gpt2_task(const std::filesystem::path& folder) {
  const nn::init::WithoutValues values_come_from_the_file;
  const Settings settings = read_settings(folder / "config.json");
  const StateDict weights = weights_of(folder, "", {".attn.bias", ".attn.masked_bias"});
  GPT2Task model(gpt2_config(settings), task_of(settings), count_labels(weights, {"score.weight", "classifier.weight"}),
                 "gpt2");
  nn::load_state_dict(model, weights);
  model.padding_token = settings.count("pad_token_id", -1);
  model.labels = settings.labels();
  return model;
}

LlamaTask load_llama_task(const std::filesystem::path& folder) {
  const nn::init::WithoutValues values_come_from_the_file;
  const Settings settings = read_settings(folder / "config.json");
  const StateDict weights = weights_of(folder, "", {".rotary_emb.inv_freq"});
  LlamaTask model(llama_config(settings), task_of(settings), count_labels(weights, {"score.weight"}),
                  settings.string("model_type", "llama"));
  nn::load_state_dict(model, weights);
  model.padding_token = settings.count("pad_token_id", -1);
  model.labels = settings.labels();
  return model;
}

void save_pretrained(const BertTask& model, const std::filesystem::path& folder) {
  formats::save_checkpoint(folder, nn::state_dict(model));
  text::Object config = config_of(model.body().config);
  rename_architecture(config, std::string(model.roberta ? "Roberta" : "Bert") + "For" + name(model.task));
  if (model.task != TextTask::MaskedLM) {
    const auto* plain = model.classifier ? std::get_if<nn::Linear>(&*model.classifier) : nullptr;
    const auto* deep = model.classifier ? std::get_if<RobertaClassificationHead>(&*model.classifier) : nullptr;
    add_labels(config, model.labels, plain ? plain->weight.shape()[0] : deep ? deep->out_proj.weight.shape()[0] : 2);
  }
  write_config(folder, std::move(config));
}

namespace {
template <class Model>
void save_causal(const Model& model, text::Object config, const std::string& family,
                 const std::filesystem::path& folder) {
  formats::save_checkpoint(folder, nn::state_dict(model));
  rename_architecture(config, family + "For" + name(model.task));
  if (model.padding_token >= 0) config.emplace_back("pad_token_id", model.padding_token);
  const auto& head = model.score ? model.score : model.classifier ? model.classifier : model.qa_outputs;
  add_labels(config, model.labels, head->weight.shape()[0]);
  write_config(folder, std::move(config));
}
}  // namespace

void save_pretrained(const GPT2Task& model, const std::filesystem::path& folder) {
  save_causal(model, config_of(model.config), "GPT2", folder);
}

void save_pretrained(const LlamaTask& model, const std::filesystem::path& folder) {
  const std::string family = model.type == "mistral" ? "Mistral" : model.type == "qwen2" ? "Qwen2" : "Llama";
  save_causal(model, config_of(model.config, model.type), family, folder);
}

}  // namespace tenon::models
