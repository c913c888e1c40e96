// tenon convert IN OUT: a model, or weights, in another format.
#include <fmt/format.h>

#include <filesystem>

#include "tenon/base/file.h"
#include "tenon/data/npy.h"
#include "tenon/data/to_tensor.h"
#include "tenon/files/commands.h"
#include "tenon/files/model_file.h"
#include "tenon/formats/detect.h"
#include "tenon/formats/gguf.h"
#include "tenon/formats/onnx/export.h"
#include "tenon/formats/safetensors.h"
#include "tenon/ops/movement.h"

namespace tenon::files {
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
  if (extension == ".gguf") return FileKind::Gguf;
  throw UsageError({"tenon convert",
                    "the name of the new file says no format that can be written",
                    ".tenon, .onnx, .safetensors, .gguf, .npz or .npy",
                    path.string(),
                    {}});
}

bool is_model(FileKind kind) { return kind == FileKind::Package || kind == FileKind::Onnx; }

void write_weights(const fs::path& out, FileKind kind, const StateDict& weights) {
  if (kind == FileKind::SafeTensors) {
    StateDict rows;
    for (const auto& [name, tensor] : weights) rows.set(name, contiguous(tensor));
    formats::save_safetensors(out, rows);
    return;
  }
  if (kind == FileKind::Gguf) {
    formats::Gguf file;
    for (const auto& [name, tensor] : weights) file.tensors.set(name, contiguous(tensor));
    formats::save_gguf(out, file);
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
  if (arguments.was_given("opset") && to != FileKind::Onnx)
    throw UsageError({"tenon convert", "--opset is for ONNX models", "OUT.onnx", out.string(), {}});
  if (to == FileKind::Gguf && kind_of(in) == to) {
    const formats::Gguf file = formats::load_gguf(in, {.keep_packed = true});  // quantised tensors stay as they are
    formats::save_gguf(out, file);
    console.out(fmt::format("{}: {} tensors\n", out.string(), file.tensors.size() + file.packed.size()));
    return exit_done;
  }
  if (!is_model(to)) {
    const StateDict weights = read_weights(in);
    write_weights(out, to, weights);
    console.out(fmt::format("{}: {} tensors\n", out.string(), weights.size()));
    return exit_done;
  }
  if (!holds_model(in))
    throw UnsupportedError(
        {in,
         fmt::format("{} holds weights and no model", fs::is_directory(in) ? "the folder" : name(kind_of(in))),
         "a package, an ONNX model, a Keras model or a published model's folder",
         {},
         "write .safetensors or .npz"});
  ModelFile model =
      read_model(in, parse_sizes(arguments.has("sizes") ? arguments.get<std::string>("sizes") : "", "tenon convert"));
  if (to == FileKind::Onnx) {
    formats::onnx::ExportOptions options;
    options.opset = arguments.get<std::int64_t>("opset");
    options.weights = model.weights;
    options.doc = model.notes.doc;
    options.metadata = onnx_metadata(model.notes);
    formats::onnx::export_model(out, model.graph, options);
  } else {
    model.notes.weights = model.weights;
    save(out, model.graph, model.notes);
  }
  console.out(fmt::format("{}: {} nodes, {} inputs, {} outputs\n", out.string(), model.graph.nodes.size(),
                          model.signature.inputs.size(), model.signature.outputs.size()));
  return exit_done;
}

}  // namespace tenon::files
