// tenon run MODEL: a package or an ONNX model on arrays from files.
#include <fmt/format.h>

#include <chrono>
#include <filesystem>

#include "tenon/base/file.h"
#include "tenon/cli/model_file.h"
#include "tenon/cli/run.h"
#include "tenon/cli/subcommands.h"
#include "tenon/data/npy.h"
#include "tenon/data/to_tensor.h"
#include "tenon/exec/evaluate.h"
#include "tenon/exec/session.h"
#include "tenon/formats/detect.h"
#include "tenon/formats/onnx/model.h"
#include "tenon/ops/movement.h"

namespace tenon::cli {
namespace {

namespace fs = std::filesystem;

// A name of a result as the name of a file: outputs may be called anything.
std::string file_name(const std::string& name) {
  std::string safe;
  for (const char c : name) safe += c == '/' || c == '\\' || c == '\0' ? '_' : c;
  return safe.empty() || safe == "." || safe == ".." ? "_" : safe;
}

struct Result {
  std::string name;
  Tensor value;
};

// An ONNX model runs node by node as it stands: it may look at values, which a graph cannot.
std::vector<Result> run_onnx(const std::string& path, const std::map<std::string, Tensor>& inputs) {
  const auto model = formats::onnx::Model::load(path);
  std::map<std::string, formats::onnx::Value> named(inputs.begin(), inputs.end());
  const auto values = model.run(named);
  std::vector<Result> results;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!values[i].tensor())
      throw UnsupportedError(
          {path, fmt::format("output '{}' is no tensor", model.outputs()[i].name), {}, values[i].describe(), {}});
    results.push_back({model.outputs()[i].name, *values[i].tensor()});
  }
  return results;
}

std::vector<Result> run_package(const std::string& path, const std::map<std::string, Tensor>& inputs,
                                const std::string& function) {
  const Package package = load(path);
  const std::string name = function.empty() ? package.functions()[0] : function;
  const Signature& signature = package.signature(name);
  const Tensors out = package.run(name, in_order(signature, inputs, path));
  std::vector<Result> results;
  for (std::size_t i = 0; i < out.size(); ++i) results.push_back({signature.outputs[i].name, out[i]});
  return results;
}

}  // namespace

int run_command(const Arguments& arguments, const Console& console) {
  const std::string& path = arguments.positionals.at(0);
  set_num_threads(static_cast<int>(arguments.get<std::int64_t>("threads")));
  const auto inputs = read_inputs(arguments.all("input"), "tenon run");
  const formats::FileKind kind = formats::detect(MappedFile{fs::path(path)}.bytes());
  const std::string function = arguments.has("function") ? arguments.get<std::string>("function") : "";
  if (!function.empty() && kind != formats::FileKind::Package)
    throw UsageError({"tenon run", "--function is for packages: an ONNX model is one function", {}, {}, {}});
  const auto begin = std::chrono::steady_clock::now();
  std::vector<Result> results;
  if (kind == formats::FileKind::Onnx) {
    results = run_onnx(path, inputs);
  } else if (kind == formats::FileKind::Package) {
    results = run_package(path, inputs, function);
  } else {
    throw UnsupportedError({path,
                            fmt::format("{} holds no model to run", name(kind)),
                            "a package or an ONNX model",
                            {},
                            fmt::format("tenon info {}", path)});
  }
  const std::chrono::duration<double, std::milli> taken = std::chrono::steady_clock::now() - begin;
  if (arguments.has("output")) {
    const fs::path folder = arguments.get<std::string>("output");
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) throw FileError({folder.string(), "cannot make the folder: " + error.message(), {}, {}, {}});
    for (const Result& result : results)
      data::write_npy(folder / (file_name(result.name) + ".npy"), data::to_host(contiguous(result.value)));
  }
  for (const Result& result : results) {
    console.out(fmt::format("{}: {}\n", result.name, to_string(result.value.type())));
    if (!arguments.has("output")) console.out(fmt::format("{}\n", to_string(result.value)));
  }
  console.err(fmt::format("loaded and run in {:.1f} ms\n", taken.count()));
  return exit_done;
}

}  // namespace tenon::cli
