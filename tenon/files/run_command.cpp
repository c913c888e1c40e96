// tenon run MODEL: a package, an ONNX model or any other model on arrays from files.
#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>

#include "tenon/base/file.h"
#include "tenon/cli/compiled.h"
#include "tenon/data/npy.h"
#include "tenon/data/to_tensor.h"
#include "tenon/exec/evaluate.h"
#include "tenon/exec/profile.h"
#include "tenon/exec/program.h"
#include "tenon/exec/session.h"
#include "tenon/files/commands.h"
#include "tenon/files/model_file.h"
#include "tenon/formats/detect.h"
#include "tenon/formats/onnx/prepared_model.h"
#include "tenon/ir/specialize.h"
#include "tenon/ops/catalog.h"
#include "tenon/ops/movement.h"
#include "tenon/trace/capture.h"
#include "tenon/trace/state.h"

namespace tenon::files {
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

// A model that is ready to run on these inputs, as often as one likes.
struct Ready {
  std::function<Tensors()> run;
  std::vector<std::string> names;               // of the results
  std::function<std::string()> execution = {};  // how it ran, if there is something to say
};

// An ONNX model runs as a program, or node by node if it looks at values, which a graph cannot.
Ready ready_onnx(const std::string& path, const std::map<std::string, Tensor>& inputs, Precision precision) {
  const auto model = formats::onnx::PreparedModel::load(path, {.precision = precision});
  Ready ready;
  for (const auto& output : model.model().outputs()) ready.names.push_back(output.name);
  const std::map<std::string, formats::onnx::Value> named(inputs.begin(), inputs.end());
  ready.run = [model, named, path] {
    const auto values = model.run(named);
    Tensors results;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!values[i].tensor())
        throw UnsupportedError({path,
                                fmt::format("output '{}' is no tensor", model.model().outputs()[i].name),
                                {},
                                values[i].describe(),
                                {}});
      results.push_back(*values[i].tensor());
    }
    return results;
  };
  ready.execution = [model] { return model.execution(); };
  return ready;
}

// The graph on these inputs, by one call for each node: calls are what the compiler records.
std::function<Tensors()> by_calls(const ir::Graph& graph, const Tensors& in) {
  std::vector<TensorType> types;
  for (const Tensor& x : in) types.push_back(x.type());
  ir::Graph one = ir::specialize(graph, ir::bind_sizes(graph, types), ops::type_rule());
  return [one = std::move(one), in] { return trace::interpret(one, in); };
}

Ready ready_package(const std::string& path, const std::map<std::string, Tensor>& inputs, const std::string& function,
                    bool calls, Precision precision) {
  const Package package = load(path, {.precision = precision});
  const std::string name = function.empty() ? package.functions()[0] : function;
  const Signature& signature = package.signature(name);
  Ready ready;
  for (const TensorSpec& output : signature.outputs) ready.names.push_back(output.name);
  const Tensors in = in_order(signature, inputs, path);
  ready.run = [package, name, in] { return package.run(name, in); };
  if (calls) ready.run = by_calls(package.graph(name), in);
  return ready;
}

Ready ready_graph(const std::string& path, const std::map<std::string, Tensor>& inputs, bool calls,
                  Precision precision) {
  const ModelFile model = read_model(path);
  Ready ready;
  for (const TensorSpec& output : model.signature.outputs) ready.names.push_back(output.name);
  const Tensors in = in_order(model.signature, inputs, path);
  ready.run = [graph = model.graph, in] { return exec::run(graph, in); };
  if (precision == Precision::Fast) {
    std::vector<TensorType> types;
    for (const Tensor& x : in) types.push_back(x.type());
    const auto program =
        std::make_shared<const exec::Program>(std::make_shared<const ir::Graph>(ir::specialize(
                                                  model.graph, ir::bind_sizes(model.graph, types), ops::type_rule())),
                                              nullptr, precision);
    ready.run = [program, in] { return program->run(in); };
  }
  if (calls) ready.run = by_calls(model.graph, in);
  return ready;
}

}  // namespace

int run_command(const Arguments& arguments, const Console& console) {
  const std::string& path = arguments.positionals.at(0);
  set_num_threads(static_cast<int>(arguments.get<std::int64_t>("threads")));
  const auto inputs = read_inputs(arguments.all("input"), "tenon run");
  const formats::FileKind kind = kind_of(path);
  const std::string function = arguments.has("function") ? arguments.get<std::string>("function") : "";
  if (!function.empty() && kind != formats::FileKind::Package)
    throw UsageError({"tenon run", "--function is for packages: other models are one function", {}, {}, {}});
  const auto begin = std::chrono::steady_clock::now();
  const NoGrad no_grad;
  const auto wanted = [&](const char* flag) { return arguments.has(flag) && arguments.get<bool>(flag); };
  const bool compiles = wanted("compile");
  const Precision precision = wanted("fast") ? Precision::Fast : Precision::Strict;
  Ready ready = kind == formats::FileKind::Onnx      ? ready_onnx(path, inputs, precision)
                : kind == formats::FileKind::Package ? ready_package(path, inputs, function, compiles, precision)
                                                     : ready_graph(path, inputs, compiles, precision);
  if (compiles) ready.run = cli::compiled(std::move(ready.run), precision);
  const Tensors values = ready.run();
  const std::chrono::duration<double, std::milli> taken = std::chrono::steady_clock::now() - begin;
  std::optional<Profile> profile;
  if (wanted("profile")) {  // of a second run: the first also prepares and compiles
    Profiler profiler;
    (void)ready.run();
    profile = profiler.stop();
  }
  if (arguments.has("output")) {
    const fs::path folder = arguments.get<std::string>("output");
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) throw FileError({folder.string(), "cannot make the folder: " + error.message(), {}, {}, {}});
    for (std::size_t i = 0; i < values.size(); ++i)
      data::write_npy(folder / (file_name(ready.names[i]) + ".npy"), data::to_host(contiguous(values[i])));
    if (profile) save_chrome_trace(*profile, folder / "profile.json");
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    console.out(fmt::format("{}: {}\n", ready.names[i], to_string(values[i].type())));
    if (!arguments.has("output")) console.out(fmt::format("{}\n", to_string(values[i])));
  }
  if (profile) console.out(to_table(*profile) + "\n");
  const std::string how = ready.execution && !compiles ? ", " + ready.execution() : "";
  console.err(fmt::format("loaded and run in {:.1f} ms{}\n", taken.count(), how));
  return exit_done;
}

}  // namespace tenon::files
