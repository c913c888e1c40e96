// The Tenon package: functions as graphs, with their weights, in one file that needs none of the code that made it.
//
//   save("model.tenon", [&](const Tensors& in) { return Tensors{model(in[0])}; },
//        {{"image", f32, {"batch", 3, 224, 224}}}, {.weights = state_dict(model), .labels = names});
//   Package package = load("model.tenon");
//   Tensor scores = package({image})[0];
//
// The file is a SafeTensors file whose metadata holds the rest; docs/package.md is the specification. Loading maps the
// file. Whatever it says is checked before it is used: wrong bytes are a FormatError that names the file and the place,
// ops that this Tenon does not have an UnsupportedError that names them all.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/ir/graph.h"
#include "tenon/ir/precision.h"
#include "tenon/tensor/state_dict.h"
#include "tenon/trace/capture.h"

namespace tenon {

struct SaveOptions {
  StateDict weights = {};                // names for the constants that are these tensors: state_dict(model)
  std::vector<std::string> labels = {};  // what each class is called
  std::string preprocessing = {};        // JSON: what to do with raw data first
  std::string doc = {};                  // what the model is and was made from
  std::string licence = {};              // SPDX identifier or a name
  std::map<std::string, std::string> metadata = {};  // more, kept as it is; keys do not begin with "tenon."
  std::vector<std::string> outputs = {};             // names of the results; see CaptureOptions
  bool check = true;  // compare the captured graph with the function before anything is written
};

// Errors: FileError; ValueError for options that do not fit; those of capture() and check_capture().
void save(const std::filesystem::path& path, const ir::Graph& graph, const SaveOptions& options = {});
// Several functions that share their weights, by name. `load` runs "main" unless told otherwise.
void save(const std::filesystem::path& path, const std::map<std::string, ir::Graph>& functions,
          const SaveOptions& options = {});
void save(const std::filesystem::path& path, const trace::Function& fn, const std::vector<InputSpec>& inputs,
          const SaveOptions& options = {});

// An input or a result of a packaged function.
struct TensorSpec {
  std::string name;
  DType dtype = DType::F32;
  std::vector<std::string> shape;  // "3", "batch", "2*seq + 1"; "?" where the ops say what it is
};
// "f32[batch, 3]"
std::string to_string(const TensorSpec& spec);
struct Signature {
  std::vector<TensorSpec> inputs, outputs;
  std::vector<ir::Size> sizes;
};
Signature signature_of(const ir::Graph& graph);

// How a package runs.
struct LoadOptions {
  Precision precision = Precision::Strict;  // Fast: ir/precision.h
};

class Package {
 public:
  // Names of the functions; "main" first if it is there.
  [[nodiscard]] std::vector<std::string> functions() const;
  // Errors: IndexError naming the nearest function.
  [[nodiscard]] const ir::Graph& graph(std::string_view function = "main") const;
  [[nodiscard]] const Signature& signature(std::string_view function = "main") const;

  // By position or by name. Errors: those of exec::run; ValueError for a name that is missing or unknown.
  [[nodiscard]] Tensors operator()(Tensors inputs) const { return run("main", std::move(inputs)); }
  [[nodiscard]] Tensors run(std::string_view function, Tensors inputs) const;
  [[nodiscard]] std::map<std::string, Tensor> run(const std::map<std::string, Tensor>& inputs,
                                                  std::string_view function = "main") const;

  [[nodiscard]] const StateDict& weights() const;
  [[nodiscard]] const std::vector<std::string>& labels() const;
  [[nodiscard]] const std::string& preprocessing() const;       // JSON, or empty
  [[nodiscard]] const std::string& producer() const;            // "tenon 0.1.0"
  [[nodiscard]] const std::map<std::string, int>& ops() const;  // versions by name
  // All of the file's metadata.
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const;
  // Compares the weights with their checksums: FormatError naming the first that differs. (The texts' were compared by
  // load.)
  void verify() const;

  struct State;

 private:
  friend Package read_package(std::span<const std::byte>, const std::shared_ptr<const void>&, const std::string&,
                              const LoadOptions&);
  std::shared_ptr<State> state_;  // immutable but for the cache of specialised graphs
};

Package load(const std::filesystem::path& path, const LoadOptions& options = {});
// Bytes that are in memory, kept alive by `owner` (null: weights are copied). `where` names them in errors.
Package read_package(std::span<const std::byte> bytes, const std::shared_ptr<const void>& owner,
                     const std::string& where, const LoadOptions& options = {});

}  // namespace tenon
