// An ONNX model made ready to run many times: as a program (exec/program.h) for each kind of inputs.
//
//   const auto model = formats::onnx::PreparedModel::load("squeezenet.onnx");
//   auto outputs = model.run({{"data", image}});
//
// The first run with inputs of new shapes captures the model and makes a program of the graph; later ones find it.
// Programs share the weights in the form that their kernels like, and the least recently used go. What no graph holds
// (results whose shapes follow from values, numbers drawn at random, texts, sequences) runs node by node, as
// formats::onnx::Model does, and report() says why. Results are bit for bit the same either way, unless `precision` is
// Fast.
#pragma once

#include <memory>

#include "tenon/formats/onnx/model.h"
#include "tenon/ir/precision.h"

namespace tenon::formats::onnx {

struct PreparedOptions {
  bool programs = true;                     // false: every run node by node
  Precision precision = Precision::Strict;  // Fast: ir/precision.h; where a run is a program
  size_t most_programs = 64;                // that are kept at a time, for as many shapes
  int64_t most_bytes = 512 << 20;  // of their blocks of memory, each counted once; one program is kept in any case
};

class PreparedModel {
 public:
  // The parameters are those that the model has now.
  explicit PreparedModel(Model model, const PreparedOptions& options = {});
  // Errors: those of Model::load.
  static PreparedModel load(const std::filesystem::path& path, const PreparedOptions& options = {});

  [[nodiscard]] const Model& model() const;

  // As the functions of Model, with the same errors. To be called from several threads at once. Where gradients,
  // captures, compile or other transformations are to see the nodes, they do: such a run goes node by node.
  [[nodiscard]] Values run(const std::map<std::string, Value>& inputs) const;
  [[nodiscard]] Values run_in_order(Values inputs) const;
  [[nodiscard]] Tensors operator()(const Tensors& inputs) const;

  // Makes the program now if the model says the shapes of all its inputs; else nothing.
  void prepare() const;

  struct Report {
    int64_t programs_made = 0, programs_kept = 0;
    int64_t program_runs = 0, node_runs = 0;
    int64_t weight_bytes = 0;  // of the weights in the form that kernels like
    // Why (some) inputs run node by node, beginning with the ONNX operator if it is one's fault: "NonZero: …". Empty
    // if none did.
    std::string reason{};
  };
  [[nodiscard]] Report report() const;
  // "as a program", "node by node (NonZero: …)", or both.
  [[nodiscard]] std::string execution() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace tenon::formats::onnx
