// A loaded model as the server sees it: named inputs and outputs, and run().
//
// A model gives the same answers all its life, and run() may be called by several threads at once. To add a kind of
// file: a class here and a row in load_model (model.cpp).
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tenon/ir/precision.h"
#include "tenon/serve/value.h"

namespace tenon::serve {

class Pipeline;

class Model {
 public:
  Model() = default;
  virtual ~Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  [[nodiscard]] const std::vector<TensorSpec>& inputs() const { return inputs_; }
  [[nodiscard]] const std::vector<TensorSpec>& outputs() const { return outputs_; }
  // "onnx_onnxv1", as the Open Inference Protocol calls it.
  [[nodiscard]] const std::string& platform() const { return platform_; }
  // Free texts that came with the model. "labels", one a line, names the classes of a classifier.
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return metadata_; }

  // One value for each input, in the order of inputs(); outputs in the order of outputs().
  // Errors: those of the model's ops.
  [[nodiscard]] virtual std::vector<Value> run(std::vector<Value> inputs) const = 0;

  // How it runs, where there is something to say: "node by node (NonZero: …)", "as a program, fast".
  [[nodiscard]] virtual std::string execution() const { return {}; }

  // Itself, if it is made of other models.
  [[nodiscard]] virtual const Pipeline* pipeline() const { return nullptr; }

  // Empty if the first axis of every input and output is a batch of any size; else why not.
  [[nodiscard]] std::string why_not_batchable() const;

 protected:
  std::vector<TensorSpec> inputs_, outputs_;
  std::string platform_;
  std::map<std::string, std::string> metadata_;
};

using ModelPtr = std::shared_ptr<const Model>;
// Loads what a version's folder (or a file) holds.
using ModelLoader = std::function<ModelPtr(const std::filesystem::path&, Precision)>;

// A file (.tenon, .onnx), or a folder with model.tenon or model.onnx, or with one file of such a kind.
// Errors: FileError, FormatError, UnsupportedError.
ModelPtr load_model(const std::filesystem::path& path, Precision precision = Precision::Strict);

// What a model must be given: checks names, types and shapes against inputs() and brings the values into its order.
// RequestError naming the input, what was expected and what came.
std::vector<Value> ordered_inputs(const Model& model, std::vector<NamedValue> given);

}  // namespace tenon::serve
