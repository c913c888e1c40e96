#include "tenon/serve/example.h"

#include <fmt/format.h>

#include <sstream>

#include "tenon/serve/status.h"
#include "tenon/tensor/element.h"
#include "tenon/tensor/tensor_view.h"

namespace tenon::serve {
namespace {

int64_t length_of(const Feature& feature) {
  return std::visit([](const auto& list) { return static_cast<int64_t>(list.size()); }, feature);
}

const NamedValue* find(const std::vector<NamedValue>& values, std::string_view name) {
  for (const auto& v : values) {
    if (v.name == name) return &v;
  }
  return nullptr;
}

// The rows of one input: the extents behind the batch axis must hold the features' length.
Shape row_shape(const TensorSpec& spec, int64_t examples, int64_t length) {
  Shape shape{examples};
  int64_t known = 1;
  int open = 0;
  for (size_t i = 1; i < spec.dims.size(); ++i) {
    if (spec.dims[i] < 0)
      ++open;
    else
      known *= spec.dims[i];
  }
  const bool fits = open == 0 ? known == length : open == 1 && known > 0 && length % known == 0;
  if (!spec.has_rank || spec.dims.empty() || !fits)
    refuse(fmt::format("feature '{}' has {} values; the model's input has rows of [{}]", spec.name, length,
                       fmt::join(spec.dims.empty() ? spec.dims.begin() : spec.dims.begin() + 1, spec.dims.end(), ",")));
  for (size_t i = 1; i < spec.dims.size(); ++i) shape.push_back(spec.dims[i] < 0 ? length / known : spec.dims[i]);
  return shape;
}

}  // namespace

std::vector<NamedValue> inputs_of(const Model& model, const std::vector<Example>& examples) {
  if (examples.empty()) refuse("Input is empty: there is no example");
  std::vector<NamedValue> out;
  for (const auto& example : examples) {
    for (const auto& [name, feature] : example) {
      bool known = false;
      for (const auto& spec : model.inputs()) known = known || spec.name == name;
      if (!known) refuse(fmt::format("feature '{}' is no input of the model", name));
    }
  }
  for (const auto& spec : model.inputs()) {
    int64_t length = -1;
    for (const auto& example : examples) {
      const auto found = example.find(spec.name);
      if (found == example.end())
        refuse(fmt::format("Name: <unknown>, Feature: {} is required but could not be found.", spec.name));
      if (length >= 0 && length_of(found->second) != length)
        refuse(fmt::format("feature '{}' has {} values in one example and {} in another", spec.name, length,
                           length_of(found->second)));
      length = length_of(found->second);
      if (std::holds_alternative<std::vector<std::string>>(found->second) != spec.type.strings())
        refuse(fmt::format("feature '{}' has another type than the input, which is {}", spec.name,
                           tf_short_name(spec.type)));
    }
    const Shape shape = row_shape(spec, static_cast<int64_t>(examples.size()), length);
    if (spec.type.strings()) {
      Strings strings{shape, {}};
      for (const auto& example : examples) {
        const auto& list = std::get<std::vector<std::string>>(example.at(spec.name));
        strings.values.insert(strings.values.end(), list.begin(), list.end());
      }
      out.push_back({spec.name, std::move(strings)});
      continue;
    }
    Tensor tensor = empty(shape, *spec.type.dtype);
    if (tensor.size() > 0) {
      const View view = mutable_view(tensor);
      int64_t at = 0;
      for (const auto& example : examples) {
        const Feature& feature = example.at(spec.name);
        if (const auto* integers = std::get_if<std::vector<int64_t>>(&feature)) {
          for (int64_t v : *integers) {
            if (is_float(*spec.type.dtype))
              store_real(view, at++, static_cast<double>(v));
            else
              store_integer(view, at++, v);
          }
        } else {
          if (!is_float(*spec.type.dtype))
            refuse(fmt::format("feature '{}' holds decimals; the input is {}", spec.name, tf_short_name(spec.type)));
          for (float v : std::get<std::vector<float>>(feature)) store_real(view, at++, static_cast<double>(v));
        }
      }
    }
    out.push_back({spec.name, std::move(tensor)});
  }
  return out;
}

std::vector<std::vector<ScoredClass>> classes_of(const Model& model, const std::vector<NamedValue>& outputs) {
  const NamedValue* scores = find(outputs, "scores");
  if (!scores) scores = find(outputs, "probabilities");
  if (!scores) {
    for (const auto& v : outputs) {
      const ElementType type = type_of(v.value);
      if (type.strings() || !is_float(*type.dtype)) continue;
      if (scores) refuse("the model has several outputs of floats, and none is called 'scores'");
      scores = &v;
    }
  }
  if (!scores) refuse("the model has no output of floats for the scores of classes");
  const Shape& shape = shape_of(scores->value);
  if (shape.empty() || shape.size() > 2)
    refuse(fmt::format("output '{}' has the shape {}; scores have one row for each example", scores->name,
                       to_string(shape)));
  const int64_t count = shape.size() == 2 ? shape[1] : 1;
  std::vector<std::string> labels;
  const NamedValue* names = find(outputs, "classes");
  if (names && (!std::holds_alternative<Strings>(names->value) || !(shape_of(names->value) == shape))) names = nullptr;
  if (const auto given = model.metadata().find("labels"); given != model.metadata().end()) {
    std::istringstream lines(given->second);
    for (std::string line; std::getline(lines, line);) labels.push_back(line);
  }
  const auto values = std::get<Tensor>(scores->value).to_vector<float>();
  std::vector<std::vector<ScoredClass>> out(static_cast<size_t>(shape[0]));
  for (int64_t i = 0; i < shape[0]; ++i) {
    for (int64_t j = 0; j < count; ++j) {
      const auto at = static_cast<size_t>(i * count + j);
      ScoredClass c{{}, values[at]};
      if (names)
        c.label = std::get<Strings>(names->value).values[at];
      else if (static_cast<size_t>(j) < labels.size())
        c.label = labels[static_cast<size_t>(j)];
      out[static_cast<size_t>(i)].push_back(std::move(c));
    }
  }
  return out;
}

std::vector<float> regressions_of(const std::vector<NamedValue>& outputs, size_t examples) {
  const NamedValue* found = find(outputs, "outputs");
  if (!found && outputs.size() == 1) found = outputs.data();
  if (!found) refuse("the model has several outputs, and none is called 'outputs'");
  const auto* tensor = std::get_if<Tensor>(&found->value);
  if (!tensor || !is_float(tensor->dtype()) || static_cast<size_t>(tensor->size()) != examples)
    refuse(fmt::format("output '{}' is not one number for each of {} examples", found->name, examples));
  return tensor->to_vector<float>();
}

}  // namespace tenon::serve
