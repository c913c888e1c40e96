#include "tenon/serve/config.h"

#include <fmt/format.h>

#include "tenon/base/error.h"
#include "tenon/serve/text_proto.h"

namespace tenon::serve {
namespace {

VersionPolicy policy_of(const TextMessage& m, const std::string& where) {
  m.only({"latest", "all", "specific"});
  VersionPolicy policy;
  if (m.has("all")) {
    policy.kind = VersionPolicy::Kind::All;
  } else if (const auto* specific = m.message("specific")) {
    policy.kind = VersionPolicy::Kind::Specific;
    policy.specific = specific->integers("versions");
    if (policy.specific.empty())
      throw FormatError({where, "'specific' names no version", {}, {}, "specific { versions: 1 }"});
  } else if (const auto* latest = m.message("latest")) {
    policy.latest = latest->integer("num_versions", 1);
    if (policy.latest < 1) throw FormatError({where, "num_versions must be at least 1", {}, {}, {}});
  }
  return policy;
}

void batching_of(const TextMessage& m, LaneOptions& lane, int& threads) {
  m.only({"max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads", "thread_pool_name",
          "allowed_batch_sizes", "pad_variable_length_inputs", "enable_large_batch_splitting",
          "max_execution_batch_size"});
  BatchingOptions& b = lane.batching;
  b.enabled = true;
  b.max_batch_size = m.integer("max_execution_batch_size", m.integer("max_batch_size", 1000));
  b.timeout = std::chrono::microseconds(m.integer("batch_timeout_micros", 0));
  b.allowed_sizes = m.integers("allowed_batch_sizes");
  b.pad_variable_length = m.boolean("pad_variable_length_inputs", false);
  b.split_large = m.boolean("enable_large_batch_splitting", true);
  threads = static_cast<int>(m.integer("num_batch_threads", 0));
  lane.max_queued = std::max<int64_t>(1, m.integer("max_enqueued_batches", 10)) * b.max_batch_size;
}

ModelConfig model_of(const TextMessage& m, const std::string& where, const LaneOptions& defaults) {
  m.only({"name", "base_path", "model_type", "model_platform", "model_version_policy", "version_labels",
          "logging_config", "max_in_flight", "max_queued", "instances", "batching_parameters"});
  ModelConfig config;
  config.name = m.text("name");
  config.base_path = m.text("base_path");
  config.lane = defaults;
  if (config.name.empty()) throw FormatError({where, "a model has no name", {}, {}, "config { name: \"model\" … }"});
  if (config.name.find_first_of("/:") != std::string::npos)
    throw FormatError(
        {where, fmt::format("the name '{}' holds '/' or ':', which URLs of models cannot", config.name), {}, {}, {}});
  if (config.base_path.empty())
    throw FormatError({where, fmt::format("model '{}' has no base_path", config.name), {}, {}, {}});
  if (const auto* policy = m.message("model_version_policy")) config.policy = policy_of(*policy, where);
  for (const auto* label : m.messages("version_labels")) config.labels[label->text("key")] = label->integer("value", 0);
  int threads = 0;  // one pool for all models: a model's own number is not kept
  if (const auto* batching = m.message("batching_parameters")) batching_of(*batching, config.lane, threads);
  config.max_in_flight = m.integer("max_in_flight", 0);
  config.lane.max_queued = m.integer("max_queued", config.lane.max_queued);
  config.lane.instances = static_cast<int>(m.integer("instances", config.lane.instances));
  return config;
}

}  // namespace

std::vector<ModelConfig> parse_model_config(std::string_view text, const std::string& where,
                                            const LaneOptions& defaults) {
  const TextMessage root = TextMessage::parse(text, where);
  root.only({"model_config_list", "custom_model_config"});
  if (root.has("custom_model_config"))
    throw UnsupportedError({where,
                            "custom_model_config is for servers with platforms of their own",
                            {},
                            {},
                            "model_config_list { config { … } }"});
  std::vector<ModelConfig> out;
  for (const auto* list : root.messages("model_config_list")) {
    list->only({"config"});
    for (const auto* model : list->messages("config")) {
      out.push_back(model_of(*model, where, defaults));
      for (size_t i = 0; i + 1 < out.size(); ++i) {
        if (out[i].name == out.back().name)
          throw FormatError({where, fmt::format("two models have the name '{}'", out.back().name), {}, {}, {}});
      }
    }
  }
  return out;
}

BatchingOptions parse_batching(std::string_view text, const std::string& where, LaneOptions& lane, int& threads) {
  batching_of(TextMessage::parse(text, where), lane, threads);
  return lane.batching;
}

std::string parse_monitoring(std::string_view text, const std::string& where) {
  const TextMessage m = TextMessage::parse(text, where);
  m.only({"prometheus_config"});
  const auto* prometheus = m.message("prometheus_config");
  if (!prometheus || !prometheus->boolean("enable", false)) return {};
  return prometheus->text("path", "/monitoring/prometheus/metrics");
}

}  // namespace tenon::serve
