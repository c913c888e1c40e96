#include "tenon/serve/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "tenon/exec/evaluate.h"
#include "tenon/formats/onnx/prepared_model.h"
#include "tenon/formats/package.h"
#include "tenon/serve/status.h"

namespace tenon::serve {
namespace {

namespace fs = std::filesystem;
namespace onnx = formats::onnx;

// A number, or the name of an extent that any number may take.
int64_t extent_of(const std::string& dim) {
  const bool fixed = !dim.empty() && dim.find_first_not_of("0123456789") == std::string::npos;
  return fixed ? std::stoll(dim) : -1;
}

TensorSpec spec_of(const onnx::ValueInfo& info, const std::string& where) {
  if (info.type.kind != onnx::TypeData::Kind::Tensor)
    throw UnsupportedError({where, fmt::format("'{}' is no tensor: only tensors are served", info.name), {}, {}, {}});
  TensorSpec spec{.name = info.name, .type = {}, .has_rank = info.type.has_shape, .dims = {}};
  if (info.type.element != onnx::DataType::String) spec.type = {onnx::dtype_of(info.type.element, where)};
  for (const auto& dim : info.type.dims) spec.dims.push_back(extent_of(dim));
  return spec;
}

// Runs as a program for each kind of inputs, where there is one. Warming up makes those of the allowed batch sizes;
// what has one size only is made ready here.
class OnnxModel final : public Model {
 public:
  OnnxModel(const fs::path& path, Precision precision)
      : model_(onnx::PreparedModel::load(path, {.precision = precision})), precision_(precision) {
    const onnx::Model& model = model_.model();
    for (const auto& info : model.inputs()) inputs_.push_back(spec_of(info, path.string()));
    for (const auto& info : model.outputs()) outputs_.push_back(spec_of(info, path.string()));
    platform_ = "onnx_onnxv1";
    metadata_ = model.data().metadata;
    model_.prepare();
  }

  // A program that is strict is not worth a word.
  std::string execution() const override {
    const auto now = model_.report();
    if (precision_ == Precision::Strict && now.reason.empty()) return {};
    const bool fast = precision_ == Precision::Fast && (now.reason.empty() || now.programs_made > 0);
    return model_.execution() + (fast ? ", fast" : "");
  }

  std::vector<Value> run(std::vector<Value> inputs) const override {
    onnx::Values given;
    given.reserve(inputs.size());
    for (auto& input : inputs) {
      if (auto* tensor = std::get_if<Tensor>(&input)) {
        given.emplace_back(std::move(*tensor));
      } else {
        auto& strings = std::get<Strings>(input);
        given.emplace_back(onnx::Texts{strings.shape, std::move(strings.values)});
      }
    }
    std::vector<Value> out;
    for (const onnx::Value& value : model_.run_in_order(std::move(given))) {
      if (const Tensor* tensor = value.tensor())
        out.emplace_back(exec::contiguous(*tensor));
      else if (const onnx::Texts* texts = value.texts())
        out.emplace_back(Strings{texts->shape, texts->values});
      else
        throw UnsupportedError({outputs_[out.size()].name, "the output is no tensor", {}, value.describe(), {}});
    }
    return out;
  }

 private:
  onnx::PreparedModel model_;
  Precision precision_;
};

// A Tenon package: its function "main", with "preprocess" before and "postprocess" after it if it has them. Tensors go
// from one to the next by their names; what none before gives is an input of the model.
class PackageModel final : public Model {
 public:
  PackageModel(const fs::path& path, Precision precision)
      : package_(tenon::load(path, {.precision = precision})), precision_(precision) {
    const auto functions = package_.functions();
    for (const char* name : {"preprocess", "main", "postprocess"}) {
      if (std::find(functions.begin(), functions.end(), name) != functions.end()) stages_.emplace_back(name);
    }
    if (std::find(stages_.begin(), stages_.end(), "main") == stages_.end()) (void)package_.signature();  // says so
    std::map<std::string, TensorSpec> there;
    for (const auto& stage : stages_) {
      const Signature& signature = package_.signature(stage);
      for (const auto& input : signature.inputs) {
        const auto [at, fresh] = there.emplace(input.name, spec_of(input));
        if (fresh)
          inputs_.push_back(at->second);
        else if (!(at->second.type == spec_of(input).type))
          throw FormatError({path.string(),
                             fmt::format("'{}' takes '{}' as {}", stage, input.name, to_string(input)),
                             std::string(v2_name(at->second.type)),
                             {},
                             {}});
      }
      outputs_.clear();
      for (const auto& output : signature.outputs) {
        outputs_.push_back(spec_of(output));
        there.insert_or_assign(output.name, outputs_.back());
      }
    }
    platform_ = "tenon_package";
    metadata_ = package_.metadata();
    if (!package_.preprocessing().empty()) metadata_["preprocessing"] = package_.preprocessing();
    if (!package_.labels().empty()) metadata_["labels"] = fmt::format("{}", fmt::join(package_.labels(), "\n"));
  }

  std::string execution() const override { return precision_ == Precision::Fast ? "as a program, fast" : ""; }

  std::vector<Value> run(std::vector<Value> inputs) const override {
    if (stages_.size() == 1) return run_stage(stages_[0], std::move(inputs));
    std::map<std::string, Value> there;
    for (size_t i = 0; i < inputs.size(); ++i) there[inputs_[i].name] = std::move(inputs[i]);
    std::vector<Value> out;
    for (const auto& stage : stages_) {
      const Signature& signature = package_.signature(stage);
      std::vector<Value> in;
      for (const auto& input : signature.inputs) in.push_back(there.at(input.name));
      out = run_stage(stage, std::move(in));
      for (size_t i = 0; i < out.size(); ++i) there[signature.outputs[i].name] = out[i];
    }
    return out;
  }

 private:
  std::vector<Value> run_stage(const std::string& stage, std::vector<Value> inputs) const {
    Tensors in;
    for (auto& value : inputs) in.push_back(std::move(std::get<Tensor>(value)));
    std::vector<Value> out;
    for (const Tensor& result : package_.run(stage, std::move(in))) out.emplace_back(exec::contiguous(result));
    return out;
  }
  static TensorSpec spec_of(const tenon::TensorSpec& given) {
    TensorSpec spec{.name = given.name, .type = {given.dtype}, .has_rank = true, .dims = {}};
    for (const auto& dim : given.shape) spec.dims.push_back(extent_of(dim));
    return spec;
  }
  Package package_;
  Precision precision_;
  std::vector<std::string> stages_;
};

struct Kind {
  std::string_view extension;
  ModelPtr (*load)(const fs::path&, Precision);
};
template <class Kept>
ModelPtr load_as(const fs::path& path, Precision precision) {
  return std::make_shared<const Kept>(path, precision);
}
constexpr Kind kKinds[] = {{".onnx", load_as<OnnxModel>}, {".tenon", load_as<PackageModel>}};

const Kind* kind_of(const fs::path& path) {
  for (const auto& kind : kKinds) {
    if (path.extension() == kind.extension) return &kind;
  }
  return nullptr;
}

std::string shape_text(const TensorSpec& spec) {
  if (!spec.has_rank) return "any shape";
  return fmt::format("[{}]", fmt::join(spec.dims, ","));
}

}  // namespace

std::string Model::why_not_batchable() const {
  for (const auto* list : {&inputs_, &outputs_}) {
    for (const auto& spec : *list) {
      if (!spec.has_rank || spec.dims.empty() || spec.dims[0] >= 0)
        return fmt::format("'{}' has the shape {}, whose first axis is not a batch of any size", spec.name,
                           shape_text(spec));
    }
  }
  return inputs_.empty() ? "the model has no input" : "";
}

ModelPtr load_model(const fs::path& path, Precision precision) {
  if (!fs::is_directory(path)) {
    const Kind* kind = kind_of(path);
    if (!kind)
      throw FormatError(
          {path.string(), "not a model that can be served", "a .tenon or .onnx file, or a folder with one", {}, {}});
    return kind->load(path, precision);
  }
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(path)) {
    if (!entry.is_regular_file() || !kind_of(entry.path())) continue;
    if (entry.path().stem() == "model") return kind_of(entry.path())->load(entry.path(), precision);
    found.push_back(entry.path());
  }
  if (found.empty() && fs::exists(path / "saved_model.pb"))
    throw UnsupportedError(
        {path.string(),
         "a SavedModel (saved_model.pb), which only TensorFlow runs",
         "model.onnx, model.tenon, or a published model (config.json and SafeTensors)",
         {},
         fmt::format("python -m tf2onnx.convert --saved-model {0} --output {0}/model.onnx", path.string())});
  if (found.size() != 1)
    throw FormatError({path.string(),
                       found.empty() ? "no model here" : "several models, none of them called model",
                       "model.onnx, model.tenon, or a published model (config.json and SafeTensors)",
                       fmt::format("{} files of a known kind", found.size()),
                       {}});
  return kind_of(found[0])->load(found[0], precision);
}

std::vector<Value> ordered_inputs(const Model& model, std::vector<NamedValue> given) {
  std::vector<Value> out;
  out.reserve(model.inputs().size());
  const auto names = [&] {
    std::vector<std::string_view> list;
    for (const auto& spec : model.inputs()) list.emplace_back(spec.name);
    return list;
  };
  for (const auto& value : given) {
    if (std::none_of(model.inputs().begin(), model.inputs().end(),
                     [&](const TensorSpec& spec) { return spec.name == value.name; }))
      throw RequestError(Code::InvalidArgument, fmt::format("unexpected input '{}': the model's inputs are {}",
                                                            value.name, fmt::join(names(), ", ")));
  }
  for (const auto& spec : model.inputs()) {
    const auto found = std::find_if(given.begin(), given.end(), [&](const auto& v) { return v.name == spec.name; });
    if (found == given.end())
      throw RequestError(Code::InvalidArgument, fmt::format("input '{}' is missing: the model's inputs are {}",
                                                            spec.name, fmt::join(names(), ", ")));
    if (!(type_of(found->value) == spec.type))
      throw RequestError(Code::InvalidArgument, fmt::format("input '{}' has the datatype {}, expected {}", spec.name,
                                                            v2_name(type_of(found->value)), v2_name(spec.type)));
    const Shape& shape = shape_of(found->value);
    bool fits = !spec.has_rank || shape.size() == spec.dims.size();
    for (size_t i = 0; spec.has_rank && fits && i < shape.size(); ++i)
      fits = spec.dims[i] < 0 || spec.dims[i] == shape[i];
    if (!fits)
      throw RequestError(Code::InvalidArgument,
                         fmt::format("input '{}' has the shape [{}], expected {} (-1 is any extent)", spec.name,
                                     fmt::join(shape.begin(), shape.end(), ","), shape_text(spec)));
    out.push_back(std::move(found->value));
  }
  if (given.size() > out.size()) throw RequestError(Code::InvalidArgument, "an input is given twice");
  return out;
}

}  // namespace tenon::serve
