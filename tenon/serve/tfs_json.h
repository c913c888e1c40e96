// The bodies of TensorFlow Serving's REST API.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tenon/serve/example.h"
#include "tenon/serve/model.h"
#include "tenon/serve/repository.h"

namespace tenon::serve {

struct PredictBody {
  std::string signature;
  bool rows = true;  // "instances" came, not "inputs"
  std::vector<NamedValue> inputs;
};
// Errors: RequestError INVALID_ARGUMENT.
PredictBody parse_predict(std::string_view body, const Model& model);
// Row form: RequestError if an output has no row for each instance.
std::string predict_answer(const std::vector<NamedValue>& outputs, bool rows);

struct ExamplesBody {
  std::string signature;
  std::vector<Example> examples;  // the context's features already in each
};
ExamplesBody parse_examples(std::string_view body);
std::string classify_answer(const std::vector<std::vector<ScoredClass>>& results);
std::string regress_answer(const std::vector<float>& results);

std::string status_answer(const std::vector<VersionStatus>& versions);
std::string metadata_answer(const Model& model, const std::string& name, int64_t version);
std::string error_answer(std::string_view message);

// The signatures that a model has: "serving_default", and the names of the methods. RequestError for another name.
void check_signature(const std::string& signature);

}  // namespace tenon::serve
