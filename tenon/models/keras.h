// Keras models: `.keras` files (version 3) and `.h5` files with their architecture, sequential or functional.
//
// The layers are built from the file's own description and computed in Keras's layout (channels last). To add a layer:
// a row in the table of keras.cpp.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "tenon/tensor/state_dict.h"
#include "tenon/tensor/variable.h"

namespace tenon::models {

// One layer of the graph: what it computes of its inputs, and its weights by Keras's order.
struct KerasLayer {
  std::string name, type;
  std::vector<std::size_t> inputs;  // other layers, by place
  std::vector<Variable> weights;
  std::function<Tensor(const std::vector<Tensor>& inputs, const std::vector<Variable>& weights)> compute;
};

// An input as the file declares it. Extents of -1 are open; none at all: the file does not say.
struct KerasInput {
  std::string name;
  std::vector<std::int64_t> extents;
  DType dtype = DType::F32;
};

class KerasModel {
 public:
  // Errors: FileError, FormatError, UnsupportedError that lists every layer that is not to be had, all at once.
  static KerasModel load(const std::filesystem::path& path);

  // For evaluation: Dropout passes on, BatchNormalization uses its running statistics.
  [[nodiscard]] Tensor operator()(const Tensor& input) const;
  [[nodiscard]] std::vector<Tensor> run(const std::vector<Tensor>& inputs) const;
  [[nodiscard]] const std::vector<KerasLayer>& layers() const { return layers_; }
  [[nodiscard]] std::vector<KerasInput> inputs() const;
  [[nodiscard]] std::vector<std::string> output_names() const;  // of the layers that give the results
  // "dense_1.0", …: the weights under their layers' names.
  [[nodiscard]] StateDict state_dict() const;

 private:
  std::vector<KerasLayer> layers_;
  std::vector<std::size_t> inputs_, outputs_;
  std::vector<KerasInput> input_types_;  // one for each of inputs_
};

}  // namespace tenon::models
