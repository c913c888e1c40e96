// TensorFlow Serving's messages on the wire (package tensorflow.serving, and TensorFlow's tensors and Examples).
//
// Field numbers are those of proto/tensorflow_serving.proto.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tenon/serve/example.h"
#include "tenon/serve/repository.h"
#include "tenon/serve/wire.h"

namespace tenon::serve {

struct ModelSpec {
  ModelRef ref{};
  std::string signature{};
};
ModelSpec read_model_spec(WireReader in);
WireWriter write_model_spec(const std::string& name, int64_t version, const std::string& signature);

// Both encodings: tensor_content (left in place where it lies in one piece and is aligned) and typed lists, whose last
// value repeats. RequestError for a type or a size that does not fit.
Value read_tensor(WireReader in, const std::shared_ptr<const void>& owner, const std::string& name);
// `typed_lists`: as the original writes by default, slow to read; else tensor_content.
WireWriter write_tensor(const Value& value, bool typed_lists);

struct PredictMessage {
  ModelSpec spec;
  std::vector<NamedValue> inputs;
  std::vector<std::string> outputs;
};
PredictMessage read_predict(WireReader in, const std::shared_ptr<const void>& owner);
WireWriter write_predict(const PredictMessage& message);  // what a client sends
WireWriter write_predict_answer(const std::vector<NamedValue>& outputs, const WireWriter& spec, bool typed_lists);
// A client's view of an answer.
std::vector<NamedValue> read_predict_answer(WireReader in, const std::shared_ptr<const void>& owner);

// An Input message: the Examples, the context's features already in each.
std::vector<Example> read_examples(WireReader in);
WireWriter write_classifications(const std::vector<std::vector<ScoredClass>>& results);
WireWriter write_regressions(const std::vector<float>& results);

WireWriter write_signature_map(const Model& model);
WireWriter write_status(const std::vector<VersionStatus>& versions);
// A ModelServerConfig; none if it has no model_config_list. `defaults` as for parse_model_config.
std::optional<std::vector<ModelConfig>> read_server_config(WireReader in, const LaneOptions& defaults);

}  // namespace tenon::serve
