// tenon convert IN OUT: a model, or weights, in another format.
#include <fmt/format.h>

#include <filesystem>

#include "tenon/base/file.h"
#include "tenon/cli/model_file.h"
#include "tenon/cli/run.h"
#include "tenon/cli/subcommands.h"
#include "tenon/data/npy.h"
#include "tenon/data/to_tensor.h"
#include "tenon/formats/detect.h"
#include "tenon/formats/onnx/capture.h"
#include "tenon/formats/onnx/export.h"
#include "tenon/formats/safetensors.h"
#include "tenon/ops/movement.h"

namespace tenon::cli {
namespace {

namespace fs = std::filesystem;
using formats::FileKind;

// What OUT is to be: there is no content yet, so its name says it.
FileKind kind_of_name(const fs::path& path) {
  const std::string extension = path.extension().string();
  if (extension == ".tenon") return FileKind::Package;
  if (extension == ".onnx") return FileKind::Onnx;
  if (extension == ".safetensors") return FileKind::SafeTensors;
  if (extension == ".npz") return FileKind::Npz;
  if (extension == ".npy") return FileKind::Npy;
  throw UsageError({"tenon convert",
                    "the name of the new file says no format that can be written",
                    ".tenon, .onnx, .safetensors, .npz or .npy",
                    path.string(),
                    {}});
}

bool holds_model(FileKind kind) { return kind == FileKind::Package || kind == FileKind::Onnx; }

// All tensors of a file, under their names.
StateDict weights_of(const std::string& path, FileKind kind) {
  StateDict dict;
  switch (kind) {
    case FileKind::Package:
    case FileKind::SafeTensors:
      return formats::load_safetensors(path).tensors;
    case FileKind::Onnx: {
      const auto model = formats::onnx::Model::load(path);
      return formats::onnx::parameters_of(model);
    }
    case FileKind::Npz:
      for (auto& [name, array] : data::read_npz(fs::path(path)))
        dict.set(name, data::to_tensor(data::HostArray(array)));
      return dict;
    case FileKind::Npy:
      dict.set(fs::path(path).stem().string(), data::to_tensor(data::read_npy(fs::path(path))));
      return dict;
    case FileKind::Unknown:
      break;
  }
  throw UnsupportedError({path, "a file of no known format", "a package, ONNX, SafeTensors, NPY or NPZ", {}, {}});
}

void write_weights(const fs::path& out, FileKind kind, const StateDict& weights) {
  if (kind == FileKind::SafeTensors) {
    StateDict rows;
    for (const auto& [name, tensor] : weights) rows.set(name, contiguous(tensor));
    formats::save_safetensors(out, rows);
    return;
  }
  if (kind == FileKind::Npy) {
    if (weights.size() != 1)
      throw UnsupportedError(
          {out.string(), "an NPY file holds one array", "1", std::to_string(weights.size()), "write .npz"});
    data::write_npy(out, data::to_host(contiguous(weights.begin()->second)));
    return;
  }
  data::NamedArrays arrays;
  for (const auto& [name, tensor] : weights) arrays[name] = data::to_host(contiguous(tensor));
  data::write_npz(out, arrays);
}

}  // namespace

int convert_command(const Arguments& arguments, const Console& console) {
  const std::string& in = arguments.positionals.at(0);
  const fs::path out = arguments.positionals.at(1);
  const FileKind to = kind_of_name(out);
  const FileKind from = formats::detect(MappedFile{fs::path(in)}.bytes());
  if (arguments.was_given("opset") && to != FileKind::Onnx)
    throw UsageError({"tenon convert", "--opset is for ONNX models", "OUT.onnx", out.string(), {}});
  if (!holds_model(to)) {
    const StateDict weights = weights_of(in, from);
    write_weights(out, to, weights);
    console.out(fmt::format("{}: {} tensors\n", out.string(), weights.size()));
    return exit_done;
  }
  if (!holds_model(from))
    throw UnsupportedError({in,
                            fmt::format("{} holds weights and no model", name(from)),
                            "a package or an ONNX model",
                            {},
                            "write .safetensors or .npz"});
  ModelFile model =
      read_model(in, parse_sizes(arguments.has("sizes") ? arguments.get<std::string>("sizes") : "", "tenon convert"));
  if (to == FileKind::Onnx) {
    formats::onnx::ExportOptions options;
    options.opset = arguments.get<std::int64_t>("opset");
    options.weights = model.weights;
    options.doc = model.notes.doc;
    options.metadata = model.notes.metadata;
    formats::onnx::export_model(out, model.graph, options);
  } else {
    model.notes.weights = model.weights;
    save(out, model.graph, model.notes);
  }
  console.out(fmt::format("{}: {} nodes, {} inputs, {} outputs\n", out.string(), model.graph.nodes.size(),
                          model.signature.inputs.size(), model.signature.outputs.size()));
  return exit_done;
}

}  // namespace tenon::cli
