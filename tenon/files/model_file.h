// A model from a file (or a folder) of any format that holds one, as a graph.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "tenon/formats/detect.h"
#include "tenon/formats/package.h"

namespace tenon::files {

struct ModelFile {
  ir::Graph graph;
  Signature signature;
  StateDict weights;
  SaveOptions notes;  // labels, preprocessing, licence and the like, as far as the file has them
};

// "batch=1,total=past+seq" -> sizes. Errors: UsageError naming `option`.
std::map<std::string, Dim> parse_sizes(const std::string& text, std::string_view command);
// What the file holds, by its content; Unknown for a folder too.
[[nodiscard]] formats::FileKind kind_of(const std::string& path);
// True for a package, an ONNX model, a Keras file with its architecture, and the folder of a published model.
[[nodiscard]] bool holds_model(const std::string& path);
// Of such. `sizes`: what extents are that an ONNX model leaves open.
// Errors: UnsupportedError for files of other kinds, those of the formats.
ModelFile read_model(const std::string& path, const std::map<std::string, Dim>& sizes = {});

// What an ONNX model's metadata says of these: the licence under ONNX's own key, labels and preprocessing under those
// of packages. Reading a model takes them back.
[[nodiscard]] std::map<std::string, std::string> onnx_metadata(const SaveOptions& notes);

// All tensors of a file or of a published model's folder, under their names.
// Errors: UnsupportedError for a file of no known format, those of the formats.
[[nodiscard]] StateDict read_weights(const std::string& path);

// Inputs by the words NAME=FILE.npy. Errors: UsageError for a word without '='; ValueError for names and files that do
// not fit the signature.
std::map<std::string, Tensor> read_inputs(const std::vector<std::string>& words, std::string_view command);
// In the signature's order. Errors: ValueError for a missing or unknown name.
Tensors in_order(const Signature& signature, const std::map<std::string, Tensor>& inputs, std::string_view where);

}  // namespace tenon::files
