// A folder of a published model, or a Keras file, as a plain function of named inputs: what capture(), save() and
// export want.
//
//   models::PretrainedFunction model = models::load_pretrained_function("bert-base");
//   save("bert.tenon", model.fn, model.inputs, {.weights = model.weights, .outputs = model.outputs});
//
// To add a family: a row in the table of pretrained_function.cpp.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tenon/tensor/state_dict.h"
#include "tenon/trace/capture.h"

namespace tenon::models {

struct PretrainedFunction {
  std::string type;          // "bert", "t5", …; "keras"
  std::string architecture;  // "BertForSequenceClassification"; may be empty
  trace::Function fn;
  std::vector<InputSpec> inputs;  // named as the published software names them; batch and length are left open
  std::vector<std::string> outputs;
  StateDict weights;
  std::vector<std::string> labels;
};

// Errors: those of the loaders; UnsupportedError that lists the families for another model type.
[[nodiscard]] PretrainedFunction load_pretrained_function(const std::filesystem::path& folder);
// Errors: those of KerasModel::load; UnsupportedError if the file does not say how large inputs are.
[[nodiscard]] PretrainedFunction load_keras_function(const std::filesystem::path& path);

}  // namespace tenon::models
