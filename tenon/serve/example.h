// TensorFlow's Example: named lists of numbers or texts, what Classify and Regress take; and what they answer.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "tenon/serve/model.h"

namespace tenon::serve {

using Feature = std::variant<std::vector<int64_t>, std::vector<float>, std::vector<std::string>>;
using Example = std::map<std::string, Feature>;

// One row of each input for each example: the feature of the input's name. RequestError if one is missing, unknown, of
// another type or of another length than the input's row.
std::vector<NamedValue> inputs_of(const Model& model, const std::vector<Example>& examples);

struct ScoredClass {
  std::string label;  // "" if the model does not name its classes
  float score = 0;
};
// By example. The scores are the output "scores", "probabilities", or the only one of floats; the labels are the output
// "classes", or the lines of the model's metadata "labels". RequestError if the model is no classifier.
std::vector<std::vector<ScoredClass>> classes_of(const Model& model, const std::vector<NamedValue>& outputs);
// The output "outputs", or the only one: one number for each example. RequestError otherwise.
std::vector<float> regressions_of(const std::vector<NamedValue>& outputs, size_t examples);

}  // namespace tenon::serve
