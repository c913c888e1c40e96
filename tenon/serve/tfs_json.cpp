#include "tenon/serve/tfs_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tenon/serve/json_reader.h"
#include "tenon/serve/status.h"
#include "tenon/serve/tensor_json.h"

namespace tenon::serve {
namespace {

using Json = nlohmann::ordered_json;

// The input that stands alone, for values without a name.
const TensorSpec& only_input(const Model& model, std::string_view key) {
  if (model.inputs().size() != 1)
    refuse(fmt::format("JSON Value for '{}' is a plain value or list, but the model has {} inputs: name each of them",
                       key, model.inputs().size()));
  return model.inputs()[0];
}

const TensorSpec& input_named(const Model& model, const std::string& name) {
  for (const auto& spec : model.inputs()) {
    if (spec.name == name) return spec;
  }
  std::vector<std::string_view> names;
  for (const auto& spec : model.inputs()) names.emplace_back(spec.name);
  refuse(fmt::format("JSON object: does not have named input: {} (the model's inputs are {})", name,
                     fmt::join(names, ", ")));
}

bool named_values(JsonReader& json) { return json.peek() == JsonKind::Object && !is_base64_object(json); }

std::vector<NamedValue> parse_columns(JsonReader& json, const Model& model) {
  std::vector<NamedValue> out;
  const auto read = [&](const TensorSpec& spec) {
    TensorBuilder builder(spec.type);
    builder.read(json);
    out.push_back({spec.name, builder.take_one()});
  };
  if (!named_values(json)) {
    read(only_input(model, "inputs"));
    return out;
  }
  json.begin_object();
  for (std::string key; json.next_key(key);) {
    const TensorSpec& spec = input_named(model, key);
    if (std::any_of(out.begin(), out.end(), [&](const auto& v) { return v.name == key; }))
      refuse(fmt::format("input '{}' is given twice", key));
    read(spec);
  }
  return out;
}

std::vector<NamedValue> parse_rows(JsonReader& json, const Model& model) {
  if (json.peek() != JsonKind::Array) refuse("Expecting 'instances' value to be a list/array");
  json.begin_array();
  std::vector<TensorBuilder> builders;
  for (const auto& spec : model.inputs()) builders.emplace_back(spec.type);
  bool objects = false;
  int64_t count = 0;
  std::string key;
  while (json.next_item()) {
    const bool object = named_values(json);
    if (count == 0) objects = object;
    if (object != objects) refuse("Expecting each of 'instances' to be an object, or none of them");
    if (!object) {
      (void)only_input(model, "instances");
      builders[0].read(json);
      ++count;
      continue;
    }
    ++count;
    size_t keys = 0;
    json.begin_object();
    while (json.next_key(key)) {
      const auto at = static_cast<size_t>(&input_named(model, key) - model.inputs().data());
      if (builders[at].values() >= count) refuse(fmt::format("input '{}' is given twice in one instance", key));
      builders[at].read(json);
      ++keys;
    }
    if (keys != model.inputs().size())
      refuse(fmt::format("Failed to process element: {} of 'instances' list. It has {} of the model's {} inputs",
                         count - 1, keys, model.inputs().size()));
  }
  if (count == 0) refuse("No instances found in the request: 'instances' is an empty list");
  std::vector<NamedValue> out;
  for (size_t i = 0; i < builders.size(); ++i) out.push_back({model.inputs()[i].name, builders[i].take_rows()});
  return out;
}

Feature parse_feature(JsonReader& json, const std::string& name) {
  std::vector<int64_t> integers;
  std::vector<float> decimals;
  std::vector<std::string> texts;
  bool any_decimal = false;
  const auto read = [&] {
    switch (json.peek()) {
      case JsonKind::True:
      case JsonKind::False:
        integers.push_back(json.boolean() ? 1 : 0);
        decimals.push_back(static_cast<float>(integers.back()));
        break;
      case JsonKind::Number: {
        const auto mark = json.mark();
        const std::string_view text = json.number();
        json.back_to(mark);
        if (text.find_first_of(".eENI") == std::string_view::npos) {
          integers.push_back(json.integer<int64_t>());
          decimals.push_back(static_cast<float>(integers.back()));
        } else {
          any_decimal = true;
          decimals.push_back(static_cast<float>(json.real()));
        }
        break;
      }
      default: {
        ElementStore one(kStrings);
        one.read(json);
        texts.push_back(std::move(std::get<Strings>(one.take({1})).values[0]));
      }
    }
  };
  if (json.peek() == JsonKind::Array) {
    json.begin_array();
    while (json.next_item()) read();
  } else {
    read();
  }
  if (!texts.empty() && !decimals.empty()) refuse(fmt::format("Feature: {} mixes numbers and strings", name));
  if (!texts.empty()) return texts;
  if (any_decimal) return decimals;
  return integers;
}

Example parse_example(JsonReader& json, const std::string& what) {
  if (json.peek() != JsonKind::Object) refuse(fmt::format("Example in '{}' must be an object", what));
  Example out;
  json.begin_object();
  for (std::string key; json.next_key(key);) out[key] = parse_feature(json, key);
  return out;
}

Json tensor_info(const TensorSpec& spec) {
  Json dims = Json::array();
  for (int64_t d : spec.dims) dims.push_back({{"size", std::to_string(d)}, {"name", ""}});
  return {{"dtype", tf_name(spec.type)},
          {"tensor_shape", {{"dim", dims}, {"unknown_rank", !spec.has_rank}}},
          {"name", spec.name + ":0"}};
}

}  // namespace

void check_signature(const std::string& signature) {
  for (std::string_view known : {"", "serving_default", "tensorflow/serving/predict", "tensorflow/serving/classify",
                                 "tensorflow/serving/regress"}) {
    if (signature == known) return;
  }
  refuse(fmt::format("Serving signature name: \"{}\" not found in signature def", signature));
}

PredictBody parse_predict(std::string_view body, const Model& model) {
  JsonReader json(body);
  PredictBody out;
  if (json.peek() != JsonKind::Object) refuse("JSON body must be an object");
  json.begin_object();
  bool given = false;
  for (std::string key; json.next_key(key);) {
    if (key == "signature_name") {
      if (json.peek() != JsonKind::String)
        refuse(fmt::format("JSON Value: {} not formatted correctly. 'signature_name' key must be a string value.",
                           json.raw_value().substr(0, 64)));
      json.string(out.signature);
    } else if (key == "instances" || key == "inputs") {
      if (given) refuse("Request has both 'instances' and 'inputs'; give one of them");
      given = true;
      out.rows = key == "instances";
      out.inputs = out.rows ? parse_rows(json, model) : parse_columns(json, model);
    } else {
      json.skip_value();
    }
  }
  if (!given) refuse("Missing 'inputs' or 'instances' key");
  check_signature(out.signature);
  return out;
}

std::string predict_answer(const std::vector<NamedValue>& outputs, bool rows) {
  std::string out = rows ? "{\n    \"predictions\": " : "{\n    \"outputs\": ";
  const auto binary = [](const NamedValue& v) { return v.name.ends_with("_bytes"); };
  if (!rows) {
    if (outputs.size() == 1) {
      append_tensor(out, outputs[0].value, binary(outputs[0]));
    } else {
      out += '{';
      for (size_t i = 0; i < outputs.size(); ++i) {
        out += i > 0 ? ",\n        " : "\n        ";
        append_json(out, outputs[i].name);
        out += ": ";
        append_tensor(out, outputs[i].value, binary(outputs[i]));
      }
      out += "\n    }";
    }
    return out + "\n}";
  }
  int64_t count = -1;
  for (const auto& v : outputs) {
    const Shape& shape = shape_of(v.value);
    if (shape.empty())
      refuse(
          fmt::format("Tensor name: {} has no shape information: row format needs a batch axis; use 'inputs'", v.name));
    if (count >= 0 && shape[0] != count)
      refuse(fmt::format("Tensor name: {} has inconsistent batch size: {} expecting: {}", v.name, shape[0], count));
    count = shape[0];
  }
  if (outputs.size() == 1) {
    append_tensor(out, outputs[0].value, binary(outputs[0]));
    return out + "\n}";
  }
  out += '[';
  for (int64_t row = 0; row < count; ++row) {
    out += row > 0 ? ", {" : "{";
    for (size_t i = 0; i < outputs.size(); ++i) {
      out += i > 0 ? ",\n            " : "\n            ";
      append_json(out, outputs[i].name);
      out += ": ";
      append_row(out, outputs[i].value, row, binary(outputs[i]));
    }
    out += "\n        }";
  }
  return out + "]\n}";
}

ExamplesBody parse_examples(std::string_view body) {
  JsonReader json(body);
  ExamplesBody out;
  Example context;
  if (json.peek() != JsonKind::Object) refuse("JSON body must be an object");
  json.begin_object();
  for (std::string key; json.next_key(key);) {
    if (key == "signature_name") {
      if (json.peek() != JsonKind::String) refuse("'signature_name' key must be a string value.");
      json.string(out.signature);
    } else if (key == "context") {
      context = parse_example(json, key);
    } else if (key == "examples") {
      if (json.peek() != JsonKind::Array) refuse("Expecting 'examples' value to be an non-empty list/array");
      json.begin_array();
      while (json.next_item()) out.examples.push_back(parse_example(json, key));
    } else {
      json.skip_value();
    }
  }
  if (out.examples.empty()) refuse("Expecting 'examples' value to be an non-empty list/array");
  for (auto& example : out.examples) {
    for (const auto& [name, feature] : context) {
      if (!example.emplace(name, feature).second)
        refuse(fmt::format("feature '{}' is both in 'context' and in 'examples'", name));
    }
  }
  check_signature(out.signature);
  return out;
}

std::string classify_answer(const std::vector<std::vector<ScoredClass>>& results) {
  std::string out = "{\n    \"results\": [";
  for (size_t i = 0; i < results.size(); ++i) {
    out += i > 0 ? ", [" : "[";
    for (size_t j = 0; j < results[i].size(); ++j) {
      out += j > 0 ? ", [" : "[";
      append_json(out, results[i][j].label);
      out += ", ";
      append_number(out, results[i][j].score);
      out += ']';
    }
    out += ']';
  }
  return out + "]\n}";
}

std::string regress_answer(const std::vector<float>& results) {
  std::string out = "{\n    \"results\": [";
  for (size_t i = 0; i < results.size(); ++i) {
    if (i > 0) out += ", ";
    append_number(out, results[i]);
  }
  return out + "]\n}";
}

std::string status_answer(const std::vector<VersionStatus>& versions) {
  Json list = Json::array();
  for (const auto& v : versions) {
    list.push_back({{"version", std::to_string(v.version)},
                    {"state", name(v.state)},
                    {"status", {{"error_code", name(v.status.code)}, {"error_message", v.status.message}}}});
  }
  return Json{{"model_version_status", list}}.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string metadata_answer(const Model& model, const std::string& name, int64_t version) {
  Json inputs = Json::object(), outputs = Json::object();
  for (const auto& spec : model.inputs()) inputs[spec.name] = tensor_info(spec);
  for (const auto& spec : model.outputs()) outputs[spec.name] = tensor_info(spec);
  const Json signature{{"inputs", inputs},
                       {"outputs", outputs},
                       {"method_name", "tensorflow/serving/predict"},
                       {"defaults", Json::object()}};
  const Json answer{{"model_spec", {{"name", name}, {"signature_name", ""}, {"version", std::to_string(version)}}},
                    {"metadata", {{"signature_def", {{"signature_def", {{"serving_default", signature}}}}}}}};
  return answer.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string error_answer(std::string_view message) {
  std::string out = "{ \"error\": ";
  append_json(out, message);
  return out + " }";
}

}  // namespace tenon::serve
