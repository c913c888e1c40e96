// What to serve: models, versions, labels and batching; TensorFlow Serving's files are read as they are.
#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/serve/pipeline.h"
#include "tenon/serve/request_log.h"
#include "tenon/serve/scheduler.h"
#include "tenon/serve/tls.h"
#include "tenon/serve/traffic.h"

namespace tenon::serve {

struct VersionPolicy {
  enum class Kind : uint8_t { Latest, All, Specific } kind = Kind::Latest;
  int64_t latest = 1;               // how many of the highest
  std::vector<int64_t> specific{};  // those
  bool operator==(const VersionPolicy&) const = default;
};

struct ModelConfig {
  std::string name;
  // A folder of folders with numbers for names; or the model itself (a file, or a folder with model.onnx), which is
  // then version 1.
  std::filesystem::path base_path;
  VersionPolicy policy{};
  std::map<std::string, int64_t> labels{};  // may name versions that are not ready yet
  LaneOptions lane{};
  // Of requests that name no version. None: the configuration does not speak of it, and what is set stays.
  std::optional<TrafficOptions> traffic{};
  std::optional<PipelineOptions> pipeline{};  // made of other models, instead of a base_path; its only version is 1
  std::optional<RequestLogOptions> request_log{};
  int64_t max_in_flight = 0;  // requests of this model inside the server at one time; 0: no quota. More get 429
};

// A ModelServerConfig in protobuf's text form (model_config_file). `defaults` are the options of models that say
// nothing. Errors: FormatError naming the line; UnsupportedError for custom_model_config or another platform.
std::vector<ModelConfig> parse_model_config(std::string_view text, const std::string& where,
                                            const LaneOptions& defaults = {});
// Whether the text has a model_config_list, if only an empty one. An empty file has none.
bool lists_models(std::string_view text, const std::string& where);
// A BatchingParameters file. num_batch_threads is returned beside it, 0 if not given.
BatchingOptions parse_batching(std::string_view text, const std::string& where, LaneOptions& lane, int& threads);
// An SSLConfig: keys and certificates as PEM text in the file itself.
TlsFiles parse_ssl_config(std::string_view text, const std::string& where);
// A MonitoringConfig: the path of the metrics, "" if not enabled.
std::string parse_monitoring(std::string_view text, const std::string& where);

}  // namespace tenon::serve
