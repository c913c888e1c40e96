// ONNX models: load, look at, run.
//
//   auto model = formats::onnx::Model::load("squeezenet.onnx");
//   auto outputs = model.run({{"data", image}});
//
// A run calls Tenon's functions node by node: on concrete tensors it computes, inside capture it records, and gradients
// flow to the inputs and to the parameters. ai.onnx opsets 6 and later, model-local functions, control flow, sequences
// and optionals; docs/onnx.md lists the operators.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tenon/formats/onnx/value.h"

namespace tenon::formats::onnx {

struct UnsupportedNode {
  std::string node;  // "node 'conv1' (Conv)"
  std::string reason;
};

class Plan;
struct NodeWatch;

class Model {
 public:
  // Errors: FileError, FormatError for bytes that are no model; UnsupportedError naming every node whose operator is
  // not known, before anything runs.
  static Model load(const std::filesystem::path& path);
  // `folder` is where external data lies; `mapped` says that the owner is a mapped file (as in read_tensor).
  static Model parse(std::string_view bytes, const std::shared_ptr<const void>& owner, const std::string& where,
                     const std::string& folder = {}, bool mapped = false);

  [[nodiscard]] const ModelData& data() const { return *data_; }
  // Inputs without a default, and outputs, in the file's order.
  [[nodiscard]] std::vector<ValueInfo> inputs() const;
  [[nodiscard]] const std::vector<ValueInfo>& outputs() const { return data_->graph.outputs; }
  // The weights by name. A tensor put in their place (a Variable's value, say) is used from then on.
  [[nodiscard]] const std::map<std::string, Value>& parameters() const { return parameters_; }
  void set_parameter(const std::string& name, Tensor value);

  // Errors: ValueError for a missing or unknown input, ShapeError or DTypeError for one that does not fit its
  // declaration; an error inside a node names the node.
  [[nodiscard]] Values run(const std::map<std::string, Value>& inputs) const;
  // The same by position, as inputs() has them.
  [[nodiscard]] Values run_in_order(Values inputs) const;
  [[nodiscard]] Tensors operator()(const Tensors& inputs) const;

 private:
  friend class PreparedModel;
  [[nodiscard]] Values run_in_order(Values inputs, NodeWatch* watch) const;
  void check_inputs(const Values& inputs) const;  // by position, as inputs() has them
  [[nodiscard]] Tensors tensors_of(const Values& outputs) const;

  std::shared_ptr<const void> owner_;  // the bytes that data_ has views of
  std::shared_ptr<const ModelData> data_;
  std::shared_ptr<const Plan> plan_;  // of data_'s nodes
  std::string where_;
  std::map<std::string, Value> parameters_;
};

}  // namespace tenon::formats::onnx
