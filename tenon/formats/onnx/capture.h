// An imported model as a graph: to be saved as a package, exported again, or looked into.
#pragma once

#include <map>
#include <string>

#include "tenon/formats/onnx/model.h"
#include "tenon/ir/graph.h"
#include "tenon/tensor/state_dict.h"
#include "tenon/trace/capture.h"

namespace tenon::formats::onnx {

struct ModelCaptureOptions {
  // What named or unknown extents are, by name: a number, another name, a sum ("past + seq").
  std::map<std::string, Dim> sizes = {};
  bool check = true;  // compare with the model, run node by node, on fresh inputs
};
// Extents that the model names stay open, unknown ones get the name INPUT_AXIS. Inputs and outputs keep their names.
// Errors: UnsupportedError for inputs that are no tensors, and those of capture(): a model that looks at values or
// sizes may need `sizes`, whose names the text then lists.
ir::Graph capture_model(const Model& model, const ModelCaptureOptions& options = {});
// The parameters that stay constants as they are in a capture: small ones are often numbers that the graph is made
// from.
StateDict captured_weights(const Model& model);
// The tensors among the parameters, under their names.
StateDict parameters_of(const Model& model);

}  // namespace tenon::formats::onnx
