#include "tenon/serve/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/serve/status.h"
#include "tenon/serve/text_proto.h"
#include "tenon/serve/traffic_fields.h"

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

TrafficOptions traffic_of(const TextMessage& m, const std::string& where, const std::string& model) {
  m.only({"split", "sticky_key", "seed", "shadow"});
  TrafficOptions out;
  out.sticky_key = m.text("sticky_key");
  out.seed = static_cast<uint64_t>(m.integer("seed", 1));
  for (const auto* split : m.messages("split")) {
    split->only({"version", "label", "weight", "rollback"});
    SplitTarget t = read_target(*split);
    if (const auto* rollback = split->message("rollback")) {
      rollback->only({"max_error_rate", "max_p99_millis", "window_seconds", "min_requests", "count_invalid_arguments"});
      t.rollback = read_rollback(*rollback);
    }
    out.split.push_back(std::move(t));
  }
  if (const auto* shadow = m.message("shadow")) {
    shadow->only({"version", "label", "sample_rate", "relative_tolerance", "absolute_tolerance", "max_in_flight",
                  "max_bytes", "timeout_millis"});
    out.shadow = read_shadow(*shadow);
  }
  const auto wrong = faults(out);
  if (!wrong.empty())
    throw FormatError({where,
                       fmt::format("the traffic of model '{}': {}", model, fmt::join(wrong, "; ")),
                       {},
                       {},
                       "traffic { split { version: 1 weight: 95 } split { version: 2 weight: 5 } }"});
  return out;
}

// TensorFlow Serving's LoggingConfig. Its collectors are plug-ins; ours are "json_lines" and "prediction_log". Others
// are left alone, as a file for the original may name one.
std::optional<RequestLogOptions> request_log_of(const TextMessage& m, const std::string& where,
                                                const std::string& model) {
  m.only({"log_collector_config", "sampling_config", "saved_model_tags", "seed", "max_file_bytes", "max_files",
          "max_queued_bytes"});
  RequestLogOptions o;
  const auto* collector = m.message("log_collector_config");
  if (!collector) return {};
  collector->only({"type", "filename_prefix"});
  const std::string type = collector->text("type");
  if (type != "json_lines" && type != "prediction_log") return {};
  o.format = type == "json_lines" ? LogFormat::JsonLines : LogFormat::PredictionLog;
  o.file.prefix = collector->text("filename_prefix");
  o.sampling_rate = 0;  // as the original: nothing is sampled unless it is said
  if (const auto* sampling = m.message("sampling_config")) {
    sampling->only({"sampling_rate"});
    o.sampling_rate = sampling->real("sampling_rate", 0);
  }
  o.seed = static_cast<uint64_t>(m.integer("seed", 1));
  o.file.max_file_bytes = m.integer("max_file_bytes", o.file.max_file_bytes);
  o.file.max_files = static_cast<int>(m.integer("max_files", o.file.max_files));
  o.file.max_queued_bytes = m.integer("max_queued_bytes", o.file.max_queued_bytes);
  const auto wrong = faults(o);
  if (!wrong.empty())
    throw FormatError({where,
                       fmt::format("the logging_config of model '{}': {}", model, fmt::join(wrong, "; ")),
                       {},
                       {},
                       "log_collector_config { type: \"json_lines\" filename_prefix: \"/var/log/model\" }"});
  return o;
}

std::vector<PipelineTensor> tensors_of(const TextMessage& m, std::string_view field, const std::string& where) {
  std::vector<PipelineTensor> out;
  for (const auto* tensor : m.messages(field)) {
    tensor->only({"name", "data_type", "dims"});
    PipelineTensor t{.name = tensor->text("name")};
    if (tensor->has("data_type")) {
      std::string type = tensor->text("data_type");
      if (type.starts_with("TYPE_")) type.erase(0, 5);
      try {
        t.type = type_from_v2(type == "STRING" ? "BYTES" : type);
      } catch (const RequestError& error) {
        throw FormatError(
            {where, fmt::format("tensor '{}': {}", t.name, error.what()), {}, {}, "data_type: TYPE_FP32"});
      }
    }
    if (tensor->has("dims")) t.dims = tensor->integers("dims");
    out.push_back(std::move(t));
  }
  return out;
}

// Triton's ensemble_scheduling, input and output. (Its dims leave out a batch axis; here they are all there.)
PipelineOptions pipeline_of(const TextMessage& m, const std::string& where, const std::string& model) {
  PipelineOptions out;
  const auto map_of = [](const TextMessage& step, std::string_view field) {
    std::map<std::string, std::string> map;
    for (const auto* entry : step.messages(field)) {
      entry->only({"key", "value"});
      map[entry->text("key")] = entry->text("value");
    }
    return map;
  };
  const auto* scheduling = m.message("ensemble_scheduling");
  scheduling->only({"step"});
  for (const auto* step : scheduling->messages("step")) {
    step->only({"model_name", "model_version", "version_label", "input_map", "output_map"});
    PipelineStep s;
    s.model.name = step->text("model_name");
    if (const int64_t version = step->integer("model_version", -1); version >= 0) s.model.version = version;
    s.model.label = step->text("version_label");
    s.inputs = map_of(*step, "input_map");
    s.outputs = map_of(*step, "output_map");
    out.steps.push_back(std::move(s));
  }
  out.inputs = tensors_of(m, "input", where);
  out.outputs = tensors_of(m, "output", where);
  const auto wrong = faults(out);
  if (!wrong.empty())
    throw FormatError({where, fmt::format("the pipeline '{}': {}", model, fmt::join(wrong, "; ")), {}, {}, {}});
  return out;
}

PoolOptions pool_of(const TextMessage& m, const std::string& where, const std::string& model) {
  m.only({"threads", "threads_per_run", "cpus"});
  PoolOptions out{.threads = static_cast<int>(m.integer("threads", 0)),
                  .threads_per_run = static_cast<int>(m.integer("threads_per_run", 0))};
  for (const int64_t cpu : m.integers("cpus"))
    out.cpus.push_back(static_cast<int>(std::clamp<int64_t>(cpu, -1, 1 << 20)));
  const auto wrong = faults(out);
  if (!wrong.empty())
    throw FormatError({where,
                       fmt::format("the pool of model '{}': {}", model, fmt::join(wrong, "; ")),
                       {},
                       {},
                       "pool { threads: 2 cpus: 0 cpus: 1 }"});
  return out;
}

ModelConfig model_of(const TextMessage& m, const std::string& where, const LaneOptions& defaults) {
  m.only({"name", "base_path", "model_type", "model_platform", "model_version_policy", "version_labels",
          "logging_config", "max_in_flight", "max_queued", "instances", "batching_parameters", "traffic",
          "ensemble_scheduling", "input", "output", "run_here_below_micros", "pool", "fast"});
  ModelConfig config;
  config.name = m.text("name");
  config.base_path = m.text("base_path");
  config.lane = defaults;
  if (config.name.empty()) throw FormatError({where, "a model has no name", {}, {}, "config { name: \"model\" … }"});
  if (config.name.find_first_of("/:") != std::string::npos)
    throw FormatError(
        {where, fmt::format("the name '{}' holds '/' or ':', which URLs of models cannot", config.name), {}, {}, {}});
  if (m.has("ensemble_scheduling")) config.pipeline = pipeline_of(m, where, config.name);
  if (config.pipeline && !config.base_path.empty())
    throw FormatError(
        {where, fmt::format("model '{}' has both a base_path and ensemble_scheduling", config.name), {}, {}, {}});
  if (config.base_path.empty() && !config.pipeline)
    throw FormatError({where, fmt::format("model '{}' has no base_path", config.name), {}, {}, {}});
  if (const auto* policy = m.message("model_version_policy")) config.policy = policy_of(*policy, where);
  for (const auto* label : m.messages("version_labels")) config.labels[label->text("key")] = label->integer("value", 0);
  config.traffic.emplace();
  if (const auto* traffic = m.message("traffic")) config.traffic = traffic_of(*traffic, where, config.name);
  if (const auto* logging = m.message("logging_config"))
    config.request_log = request_log_of(*logging, where, config.name);
  int threads = 0;  // one pool for all models: a model's own number is not kept
  if (const auto* batching = m.message("batching_parameters")) batching_of(*batching, config.lane, threads);
  config.max_in_flight = m.integer("max_in_flight", 0);
  config.lane.max_queued = m.integer("max_queued", config.lane.max_queued);
  config.lane.instances = static_cast<int>(m.integer("instances", config.lane.instances));
  if (const auto* pool = m.message("pool")) config.lane.pool = pool_of(*pool, where, config.name);
  if (m.has("fast")) config.lane.precision = m.boolean("fast", false) ? Precision::Fast : Precision::Strict;
  config.lane.run_here_below =
      std::chrono::microseconds(m.integer("run_here_below_micros", config.lane.run_here_below.count()));
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

bool lists_models(std::string_view text, const std::string& where) {
  return TextMessage::parse(text, where).has("model_config_list");
}

BatchingOptions parse_batching(std::string_view text, const std::string& where, LaneOptions& lane, int& threads) {
  batching_of(TextMessage::parse(text, where), lane, threads);
  return lane.batching;
}

TlsFiles parse_ssl_config(std::string_view text, const std::string& where) {
  const TextMessage m = TextMessage::parse(text, where);
  m.only({"server_key", "server_cert", "custom_ca", "client_verify"});
  TlsFiles out{m.text("server_cert"), m.text("server_key"), {}};
  if (out.certificate.empty() || out.key.empty())
    throw FormatError({where, "server_key and server_cert are both needed, as PEM text", {}, {}, {}});
  if (m.boolean("client_verify", false)) {
    out.client_ca = m.text("custom_ca");
    if (out.client_ca.empty())
      throw FormatError({where, "client_verify needs custom_ca: whose certificates clients may show", {}, {}, {}});
  }
  return out;
}

std::string parse_monitoring(std::string_view text, const std::string& where) {
  const TextMessage m = TextMessage::parse(text, where);
  m.only({"prometheus_config"});
  const auto* prometheus = m.message("prometheus_config");
  if (!prometheus || !prometheus->boolean("enable", false)) return {};
  return prometheus->text("path", "/monitoring/prometheus/metrics");
}

}  // namespace tenon::serve
