#include "tenon/cli/model_file.h"

#include <fmt/format.h>

#include <algorithm>

#include "tenon/base/file.h"
#include "tenon/base/nearest.h"
#include "tenon/cli/arguments.h"
#include "tenon/data/npy.h"
#include "tenon/data/to_tensor.h"
#include "tenon/formats/detect.h"
#include "tenon/formats/onnx/capture.h"
#include "tenon/ops/movement.h"

namespace tenon::cli {

std::map<std::string, Dim> parse_sizes(const std::string& text, std::string_view command) {
  std::map<std::string, Dim> sizes;
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = std::min(text.find(',', at), text.size());
    const std::string part = text.substr(at, end - at);
    const size_t equals = part.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == part.size())
      throw UsageError({std::string(command), "--sizes is not a list of sizes", "batch=1,total=past+seq", text, {}});
    const std::string name = part.substr(0, equals), value = part.substr(equals + 1);
    const bool number = value.size() < 19 && value.find_first_not_of("0123456789") == std::string::npos;
    sizes.insert_or_assign(name, number ? Dim(std::stoll(value)) : Dim(value, 0));
    at = end + 1;
  }
  return sizes;
}

ModelFile read_model(const std::string& path, const std::map<std::string, Dim>& sizes) {
  const MappedFile file{std::filesystem::path(path)};
  const formats::FileKind kind = formats::detect(file.bytes());
  ModelFile result;
  if (kind == formats::FileKind::Package) {
    const Package package = load(path);
    result.graph = package.graph(package.functions()[0]);
    result.weights = package.weights();
    result.notes.labels = package.labels();
    result.notes.preprocessing = package.preprocessing();
    for (const auto& [key, text] : package.metadata()) {
      if (key == "tenon.doc") result.notes.doc = text;
      if (key == "tenon.licence") result.notes.licence = text;
      if (!key.starts_with("tenon.")) result.notes.metadata[key] = text;
    }
  } else if (kind == formats::FileKind::Onnx) {
    const auto model = formats::onnx::Model::load(path);
    result.graph = formats::onnx::capture_model(model, {.sizes = sizes});
    result.weights = formats::onnx::parameters_of(model);
    result.notes.doc = model.data().doc;
    result.notes.metadata = model.data().metadata;
  } else {
    throw UnsupportedError({path,
                            fmt::format("{} holds no model to run", name(kind)),
                            "a package or an ONNX model",
                            {},
                            fmt::format("tenon info {}", path)});
  }
  result.signature = signature_of(result.graph);
  return result;
}

std::map<std::string, Tensor> read_inputs(const std::vector<std::string>& words, std::string_view command) {
  std::map<std::string, Tensor> inputs;
  for (const std::string& word : words) {
    const size_t equals = word.find('=');
    if (equals == std::string::npos || equals == 0)
      throw UsageError({std::string(command), "--input is not NAME=FILE", "--input x=x.npy", word, {}});
    const std::string name = word.substr(0, equals);
    if (inputs.contains(name))
      throw UsageError({std::string(command), fmt::format("the input {} is given twice", name), {}, {}, {}});
    inputs[name] = data::to_tensor(data::read_npy(std::filesystem::path(word.substr(equals + 1))));
  }
  return inputs;
}

Tensors in_order(const Signature& signature, const std::map<std::string, Tensor>& inputs, std::string_view where) {
  std::vector<std::string_view> names;
  for (const TensorSpec& spec : signature.inputs) names.push_back(spec.name);
  for (const auto& [name, tensor] : inputs) {
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    throw ValueError({std::string(where),
                      fmt::format("there is no input '{}'", name),
                      fmt::format("{}", fmt::join(names, ", ")),
                      {},
                      std::string(nearest_name(name, names))});
  }
  Tensors list;
  for (const TensorSpec& spec : signature.inputs) {
    const auto found = inputs.find(spec.name);
    if (found == inputs.end())
      throw ValueError({std::string(where),
                        fmt::format("the input '{}' is missing", spec.name),
                        to_string(spec),
                        {},
                        fmt::format("--input {}=FILE.npy", spec.name)});
    list.push_back(found->second);
  }
  return list;
}

}  // namespace tenon::cli
