#include "tenon/files/model_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tenon/base/file.h"
#include "tenon/base/nearest.h"
#include "tenon/cli/arguments.h"
#include "tenon/data/npy.h"
#include "tenon/data/to_tensor.h"
#include "tenon/formats/checkpoint.h"
#include "tenon/formats/detect.h"
#include "tenon/formats/gguf.h"
#include "tenon/formats/hdf5.h"
#include "tenon/formats/onnx/capture.h"
#include "tenon/formats/safetensors.h"
#include "tenon/formats/torch_file.h"
#include "tenon/models/keras.h"
#include "tenon/models/pretrained.h"
#include "tenon/models/pretrained_function.h"
#include "tenon/ops/movement.h"

namespace tenon::files {

using cli::UsageError;

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

namespace {

namespace fs = std::filesystem;
using formats::FileKind;

bool is_whole_keras_model(const std::string& path) {
  return formats::load_hdf5(fs::path(path)).attributes.contains("@model_config");
}

// A function of layers as a graph.
ModelFile captured(models::PretrainedFunction function, const std::map<std::string, Dim>& sizes) {
  ModelFile result;
  for (InputSpec& input : function.inputs) {
    for (Dim& dim : input.dims) {
      const auto fixed = sizes.find(dim.name);
      if (dim.size < 0 && fixed != sizes.end()) dim = fixed->second;
    }
    input = InputSpec(input.name, input.type.dtype, input.dims);
  }
  result.graph = capture(function.fn, function.inputs, {.outputs = function.outputs, .weights = function.weights});
  result.weights = function.weights;
  result.notes.labels = function.labels;
  result.signature = signature_of(result.graph);
  return result;
}

constexpr const char* kLicence = "model_license";  // ONNX's own name for it
constexpr const char* kLabels = "tenon.labels";
constexpr const char* kPreprocessing = "tenon.preprocessing";

// What an ONNX model says of itself.
SaveOptions notes_of(const formats::onnx::ModelData& model, const std::string& path) {
  SaveOptions notes;
  notes.doc = model.doc;
  for (const auto& [key, text] : model.metadata) {
    if (key == kLicence) {
      notes.licence = text;
    } else if (key == kPreprocessing) {
      notes.preprocessing = text;
    } else if (key == kLabels) {
      const auto labels = nlohmann::json::parse(text, nullptr, false);
      const auto is_text = [](const nlohmann::json& label) { return label.is_string(); };
      if (!labels.is_array() || !std::ranges::all_of(labels, is_text))
        throw FormatError({path, fmt::format("{} is not a list of texts", kLabels), {}, text.substr(0, 80), {}});
      notes.labels = labels.get<std::vector<std::string>>();
    } else if (!key.starts_with("tenon.")) {  // those are the package's own
      notes.metadata[key] = text;
    }
  }
  return notes;
}

}  // namespace

std::map<std::string, std::string> onnx_metadata(const SaveOptions& notes) {
  std::map<std::string, std::string> metadata = notes.metadata;
  if (!notes.licence.empty()) metadata[kLicence] = notes.licence;
  if (!notes.labels.empty())
    metadata[kLabels] = nlohmann::json(notes.labels).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (!notes.preprocessing.empty()) metadata[kPreprocessing] = notes.preprocessing;
  return metadata;
}

FileKind kind_of(const std::string& path) {
  return fs::is_directory(path) ? FileKind::Unknown : formats::detect(MappedFile{fs::path(path)}.bytes());
}

bool holds_model(const std::string& path) {
  if (fs::is_directory(path)) return models::is_pretrained_folder(path);
  const FileKind kind = kind_of(path);
  return kind == FileKind::Package || kind == FileKind::Onnx || kind == FileKind::Keras ||
         (kind == FileKind::Hdf5 && is_whole_keras_model(path));
}

StateDict read_weights(const std::string& path) {
  if (fs::is_directory(path)) return formats::load_checkpoint(path);
  const FileKind kind = kind_of(path);
  StateDict dict;
  switch (kind) {
    case FileKind::Package:
    case FileKind::SafeTensors:
      return formats::load_safetensors(path).tensors;
    case FileKind::Onnx:
      return formats::onnx::parameters_of(formats::onnx::Model::load(path));
    case FileKind::Torch:
      return formats::load_torch(path);
    case FileKind::Gguf:
      return formats::load_gguf(path).tensors;
    case FileKind::Keras:
      return models::KerasModel::load(path).state_dict();
    case FileKind::Hdf5:
      return formats::load_hdf5(path).tensors;
    case FileKind::Npz:
      for (data::NamedArrays arrays = data::read_npz(fs::path(path)); auto& [name, array] : arrays)
        dict.set(name, data::to_tensor(std::move(array)));
      return dict;
    case FileKind::Npy:
      dict.set(fs::path(path).stem().string(), data::to_tensor(data::read_npy(fs::path(path))));
      return dict;
    case FileKind::Unknown:
      break;
  }
  throw UnsupportedError({path,
                          "a file of no known format",
                          "a package, ONNX, SafeTensors, PyTorch, GGUF, Keras, NPY or NPZ file, or a model's folder",
                          {},
                          {}});
}

ModelFile read_model(const std::string& path, const std::map<std::string, Dim>& sizes) {
  if (fs::is_directory(path)) return captured(models::load_pretrained_function(path), sizes);
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
    result.notes = notes_of(model.data(), path);
  } else if (kind == FileKind::Keras || (kind == FileKind::Hdf5 && is_whole_keras_model(path))) {
    return captured(models::load_keras_function(path), sizes);
  } else {
    throw UnsupportedError({path,
                            fmt::format("{} holds no model to run", name(kind)),
                            "a package, an ONNX model, a Keras model or a model's folder",
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

}  // namespace tenon::files
