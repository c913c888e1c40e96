// tenon info PATH: inputs, outputs, parameters, ops and dtypes of a file of any format that Tenon knows, or of the
// folder of a published model.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "tenon/base/file.h"
#include "tenon/data/npy.h"
#include "tenon/files/commands.h"
#include "tenon/files/model_file.h"
#include "tenon/formats/detect.h"
#include "tenon/formats/gguf.h"
#include "tenon/formats/hdf5.h"
#include "tenon/formats/onnx/proto.h"
#include "tenon/formats/onnx/value.h"
#include "tenon/formats/package.h"
#include "tenon/formats/safetensors.h"
#include "tenon/formats/torch_file.h"
#include "tenon/models/keras.h"
#include "tenon/models/pretrained_function.h"
#include "tenon/ops/catalog.h"

namespace tenon::files {
namespace {

namespace fs = std::filesystem;
namespace onnx = formats::onnx;

struct Row {
  std::string name, type;
};

std::string table(std::string_view title, const std::vector<Row>& rows, std::size_t most = 1000) {
  std::string out = fmt::format("\n{}: {}\n", title, rows.size());
  std::size_t widest = 8;
  for (const Row& row : rows) widest = std::max(widest, std::min<std::size_t>(row.name.size(), 60));
  for (std::size_t i = 0; i < std::min(rows.size(), most); ++i)
    out += fmt::format("  {:<{}}  {}\n", rows[i].name, widest, rows[i].type);
  if (rows.size() > most) out += fmt::format("  ... {} more\n", rows.size() - most);
  return out;
}

// Parameters in all, by dtype.
class Counter {
 public:
  void add(std::string_view dtype, std::int64_t elements) {
    auto& entry = by_dtype_[std::string(dtype)];
    ++entry.first;
    entry.second += elements;
    total_ += elements;
  }
  [[nodiscard]] std::string text() const {
    std::string out = fmt::format("\nparameters: {} elements\n", total_);
    for (const auto& [dtype, entry] : by_dtype_)
      out += fmt::format("  {:<8}  {} elements in {} tensors\n", dtype, entry.second, entry.first);
    return out;
  }

 private:
  std::map<std::string, std::pair<std::int64_t, std::int64_t>> by_dtype_;
  std::int64_t total_ = 0;
};

std::string histogram(const std::map<std::string, std::size_t>& ops) {
  std::size_t total = 0;
  for (const auto& [op, count] : ops) total += count;
  std::string out = fmt::format("\nops: {} nodes\n", total);
  for (const auto& [op, count] : ops) out += fmt::format("  {:<20}  {}\n", op, count);
  return out;
}

std::string notes(const std::map<std::string, std::string>& metadata, std::string_view without = {}) {
  std::string out;
  for (const auto& [key, text] : metadata) {
    if (!without.empty() && key.starts_with(without)) continue;
    out += fmt::format("  {:<20}  {}\n", key, text.size() > 200 ? text.substr(0, 200) + "..." : text);
  }
  return out.empty() ? out : "\nmetadata\n" + out;
}

void count_ops(const ir::Graph& graph, std::map<std::string, std::size_t>& ops) {
  for (const ir::Node& node : graph.nodes) {
    if (!node.op) continue;
    ++ops[std::string(ops::catalog().schema(*node.op).name)];
    for (const ir::AttrValue& value : node.attrs) {
      const auto* sub = std::get_if<ir::GraphPtr>(&value);
      if (sub && *sub) count_ops(**sub, ops);
    }
  }
}

std::string package_info(const std::string& path) {
  const Package package = load(path);
  std::string out = fmt::format("made by {}, format {}\n", package.producer(), package.metadata().at("tenon.format"));
  for (const char* key : {"tenon.doc", "tenon.licence"}) {
    const auto found = package.metadata().find(key);
    if (found != package.metadata().end())
      out += fmt::format("{}: {}\n", std::string_view(key).substr(6), found->second);
  }
  for (const std::string& function : package.functions()) {
    const Signature& signature = package.signature(function);
    out += fmt::format("\nfunction {}\n", function);
    std::vector<Row> inputs, outputs;
    for (const auto& spec : signature.inputs) inputs.push_back({spec.name, to_string(spec)});
    for (const auto& spec : signature.outputs) outputs.push_back({spec.name, to_string(spec)});
    out += table("inputs", inputs) + table("outputs", outputs);
    for (const ir::Size& size : signature.sizes)
      out += fmt::format(
          "  {} is {}\n", size.name,
          size.high == INT64_MAX ? fmt::format("at least {}", size.low) : fmt::format("{} to {}", size.low, size.high));
    std::map<std::string, std::size_t> ops;
    count_ops(package.graph(function), ops);
    out += histogram(ops);
  }
  Counter counter;
  for (const auto& [name, tensor] : package.weights()) counter.add(tenon::name(tensor.dtype()), tensor.size());
  out += counter.text();
  if (!package.labels().empty()) out += fmt::format("\nlabels: {}\n", package.labels().size());
  if (!package.preprocessing().empty()) out += fmt::format("\npreprocessing\n  {}\n", package.preprocessing());
  return out + notes(package.metadata(), "tenon.");
}

std::string type_text(const onnx::TypeData& type) {
  using Kind = onnx::TypeData::Kind;
  switch (type.kind) {
    case Kind::Tensor: {
      std::string dims;
      for (const auto& dim : type.dims) dims += (dims.empty() ? "" : ", ") + (dim.empty() ? "?" : dim);
      return fmt::format("{}[{}]", onnx::name_of(type.element), type.has_shape ? dims : "...");
    }
    case Kind::Sequence:
      return fmt::format("sequence of {}", type.inner ? type_text(*type.inner) : "?");
    case Kind::Optional:
      return fmt::format("optional {}", type.inner ? type_text(*type.inner) : "?");
    case Kind::Map:
      return "map";
    case Kind::SparseTensor:
      return "sparse tensor";
    case Kind::None:
      break;
  }
  return "?";
}

void count_nodes(const std::vector<onnx::NodeData>& nodes, std::map<std::string, std::size_t>& ops) {
  for (const auto& node : nodes) {
    ++ops[node.domain.empty() ? node.op_type : node.domain + "." + node.op_type];
    for (const auto& a : node.attributes) {
      if (a.graph) count_nodes(a.graph->nodes, ops);
    }
  }
}

std::string onnx_info(std::span<const std::byte> bytes, const std::string& path) {
  const onnx::ModelData model = onnx::parse_model({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
  std::string out =
      fmt::format("made by {} {}, IR version {}\n", model.producer_name.empty() ? "?" : model.producer_name,
                  model.producer_version, model.ir_version);
  for (const auto& [domain, version] : model.opsets)
    out += fmt::format("opset {} {}\n", domain.empty() ? "ai.onnx" : domain, version);
  if (!model.doc.empty()) out += fmt::format("doc: {}\n", model.doc);
  Counter counter;
  std::map<std::string, bool> parameters;
  for (const auto& data : model.graph.initializers) {
    std::int64_t elements = 1;
    for (const std::int64_t extent : data.dims)
      if (__builtin_mul_overflow(elements, std::max<std::int64_t>(extent, 0), &elements))
        elements = 0;  // a false claim
    counter.add(onnx::name_of(data.type), elements);
    parameters[data.name] = true;
  }
  std::vector<Row> inputs, outputs;
  for (const auto& info : model.graph.inputs) {
    if (!parameters.contains(info.name)) inputs.push_back({info.name, type_text(info.type)});
  }
  for (const auto& info : model.graph.outputs) outputs.push_back({info.name, type_text(info.type)});
  std::map<std::string, std::size_t> ops;
  count_nodes(model.graph.nodes, ops);
  out += table("inputs", inputs) + table("outputs", outputs) + histogram(ops) + counter.text();
  if (!model.functions.empty()) out += fmt::format("\nfunctions: {}\n", model.functions.size());
  return out + notes(model.metadata);
}

std::string safetensors_info(std::span<const std::byte> bytes, const std::string& path) {
  const auto header = formats::parse_safetensors_header(bytes, path);
  std::vector<Row> rows;
  Counter counter;
  for (const auto& entry : header.entries) {
    rows.push_back({entry.name, to_string(entry.type)});
    counter.add(tenon::name(entry.type.dtype), numel(entry.type.shape));
  }
  return table("tensors", rows) + counter.text() + notes(header.metadata);
}

std::string weights_info(const StateDict& weights) {
  std::vector<Row> rows;
  Counter counter;
  for (const auto& [name, tensor] : weights) {
    rows.push_back({name, to_string(tensor.type())});
    counter.add(tenon::name(tensor.dtype()), tensor.size());
  }
  return table("tensors", rows) + counter.text();
}

std::string gguf_info(const std::string& path) {
  const formats::Gguf file = formats::load_gguf(path, {.keep_packed = true});
  std::vector<Row> rows;
  Counter counter;
  const auto add = [&](const std::string& name, const Shape& shape) {
    rows.push_back({name, fmt::format("{} as {}", to_string(shape), file.types.at(name))});
    counter.add(file.types.at(name), numel(shape));
  };
  for (const auto& [name, tensor] : file.tensors) add(name, tensor.shape());
  for (const auto& [name, packed] : file.packed) add(name, packed.shape);
  const auto text = [](const formats::GgufValue& value) -> std::string {
    if (const auto* list = std::get_if<formats::GgufList>(&value.data)) return fmt::format("{} entries", list->size());
    if (const auto* flag = std::get_if<bool>(&value.data)) return *flag ? "true" : "false";
    if (const auto* integer = std::get_if<std::int64_t>(&value.data)) return fmt::format("{}", *integer);
    if (const auto* real = std::get_if<double>(&value.data)) return fmt::format("{}", *real);
    return std::get<std::string>(value.data);
  };
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : file.metadata) metadata[key] = text(value);
  return table("tensors", rows) + counter.text() + notes(metadata);
}

std::string spec_text(const InputSpec& spec) {
  std::string dims;
  for (const Dim& dim : spec.dims)
    dims += (dims.empty() ? "" : ", ") + (dim.size < 0 ? dim.name : std::to_string(dim.size));
  return fmt::format("{}[{}]", tenon::name(spec.type.dtype), dims);
}

// What a function of layers takes, gives and holds.
std::string function_info(const models::PretrainedFunction& function) {
  std::vector<Row> inputs, outputs;
  for (const InputSpec& spec : function.inputs) inputs.push_back({spec.name, spec_text(spec)});
  for (const std::string& output : function.outputs) outputs.push_back({output, ""});
  Counter counter;
  for (const auto& [name, tensor] : function.weights) counter.add(tenon::name(tensor.dtype()), tensor.size());
  std::string out = table("inputs", inputs) + table("outputs", outputs) + counter.text();
  if (!function.labels.empty()) out += fmt::format("\nlabels: {}\n", fmt::join(function.labels, ", "));
  return out;
}

std::string keras_info(const std::string& path) {
  std::vector<Row> layers;
  const auto model = models::KerasModel::load(path);
  for (const models::KerasLayer& layer : model.layers()) layers.push_back({layer.name, layer.type});
  return table("layers", layers) + function_info(models::load_keras_function(path));
}

std::string array_text(const data::HostArray& array) {
  return to_string(TensorType{array.dtype, Shape(array.shape.begin(), array.shape.end())});
}

void model_folder_info(const std::string& path, const Console& console) {
  const models::PretrainedFunction function = models::load_pretrained_function(path);
  console.out(fmt::format("{}: a model of the type {}{}\n{}", path, function.type,
                          function.architecture.empty() ? "" : ", " + function.architecture, function_info(function)));
}

}  // namespace

int info_command(const Arguments& arguments, const Console& console) {
  const std::string& path = arguments.positionals.at(0);
  if (fs::is_directory(path)) {
    model_folder_info(path, console);
    return exit_done;
  }
  const MappedFile file{fs::path(path)};
  const formats::FileKind kind = formats::detect(file.bytes());
  std::string out = fmt::format("{}: {}, {} bytes\n", path, name(kind), file.bytes().size());
  switch (kind) {
    case formats::FileKind::Package:
      out += package_info(path);
      break;
    case formats::FileKind::Onnx:
      out += onnx_info(file.bytes(), path);
      break;
    case formats::FileKind::SafeTensors:
      out += safetensors_info(file.bytes(), path);
      break;
    case formats::FileKind::Npy:
      out += fmt::format("  {}\n", array_text(data::read_npy(file.bytes(), path)));
      break;
    case formats::FileKind::Npz: {
      std::vector<Row> rows;
      for (const auto& [name, array] : data::read_npz(file.bytes(), path)) rows.push_back({name, array_text(array)});
      out += table("arrays", rows);
      break;
    }
    case formats::FileKind::Gguf:
      out += gguf_info(path);
      break;
    case formats::FileKind::Torch:
      out += weights_info(formats::load_torch(path));
      break;
    case formats::FileKind::Hdf5:
      if (holds_model(path)) {
        out += keras_info(path);
      } else {
        out += weights_info(formats::load_hdf5(path).tensors);
      }
      break;
    case formats::FileKind::Keras:
      out += keras_info(path);
      break;
    case formats::FileKind::Unknown:
      throw FormatError({path,
                         "a file of no known format",
                         "a package, ONNX, SafeTensors, PyTorch, GGUF, Keras, NPY or NPZ file, a published model's "
                         "folder, or a run folder",
                         {},
                         {}});
  }
  console.out(out);
  return exit_done;
}

}  // namespace tenon::files
