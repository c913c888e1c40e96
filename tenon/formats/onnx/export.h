// ONNX export: any captured graph as an ONNX model.
//
//   formats::onnx::export_model("model.onnx", graph, {.weights = state_dict(model)});
//
// Named sizes become dim_params; a number that depends on them is computed in the model from its inputs' shapes, so
// that the model runs at every size that the graph does. Which op becomes what is one table (export_rules*.cpp);
// composites and elementwise ops without a row are expanded into ops that have one, and what an op became is a function
// of the model, in the domain "tenon" (export_functions.cpp). docs/onnx.md lists the table.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tenon/ir/graph.h"
#include "tenon/tensor/state_dict.h"

namespace tenon::formats::onnx {

inline constexpr int64_t kNewestExportOpset = 26;
inline constexpr int64_t kOldestExportOpset = 13;

struct ExportOptions {
  int64_t opset = kNewestExportOpset;
  StateDict weights = {};  // names for the constants that are these tensors
  std::string doc = {};
  std::map<std::string, std::string> metadata = {};
  // Weights of more bytes in all go to a file beside the model, NAME.data: a protobuf holds 2 GB.
  int64_t external_above = int64_t{1800} << 20;
};

// Errors: UnsupportedError that names every node that has no ONNX form, before anything is written; ValueError for an
// opset out of range; FileError.
void export_model(const std::filesystem::path& path, const ir::Graph& graph, const ExportOptions& options = {});
// The file's bytes, weights included.
std::string export_bytes(const ir::Graph& graph, const ExportOptions& options = {});

// The table, for docs and tests.
struct ExportRow {
  std::string op;      // Tenon's
  std::string onnx;    // operators that it becomes, or "its body"
  std::string reason;  // why it has no ONNX form; empty if it has
};
std::vector<ExportRow> export_table();

}  // namespace tenon::formats::onnx
