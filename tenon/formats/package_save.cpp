// Writing packages. docs/package.md says what every text means.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "tenon/base/error.h"
#include "tenon/base/sha256.h"
#include "tenon/exec/evaluate.h"
#include "tenon/formats/package.h"
#include "tenon/formats/package_format.h"
#include "tenon/formats/safetensors.h"
#include "tenon/ir/specialize.h"
#include "tenon/ir/text.h"
#include "tenon/ir/varying.h"
#include "tenon/ops/catalog.h"

namespace tenon {
namespace {

using Json = nlohmann::ordered_json;
using formats::kPackageFormat;

void collect_ops(const ir::Graph& graph, std::map<std::string, int>& ops) {
  for (const ir::Node& node : graph.nodes) {
    if (!node.op) continue;
    const ir::OpSchema& schema = ops::catalog().schema(*node.op);
    ops[std::string(schema.name)] = schema.version;
    for (const ir::AttrValue& value : node.attrs) {
      const auto* sub = std::get_if<ir::GraphPtr>(&value);
      if (sub && *sub) collect_ops(**sub, ops);
    }
  }
}

Json spec_json(const TensorSpec& spec) {
  Json shape = Json::array();
  for (const std::string& extent : spec.shape) {
    const bool number = extent.find_first_not_of("0123456789") == std::string::npos;
    shape.push_back(number ? Json(std::stoll(extent)) : Json(extent));
  }
  return {{"name", spec.name}, {"dtype", std::string(name(spec.dtype))}, {"shape", shape}};
}

Json signature_json(const Signature& signature) {
  Json inputs = Json::array(), outputs = Json::array(), sizes = Json::object();
  for (const TensorSpec& spec : signature.inputs) inputs.push_back(spec_json(spec));
  for (const TensorSpec& spec : signature.outputs) outputs.push_back(spec_json(spec));
  for (const ir::Size& size : signature.sizes)
    sizes[size.name] = {{"min", size.low}, {"max", size.high == INT64_MAX ? Json() : Json(size.high)}};
  return {{"inputs", inputs}, {"outputs", outputs}, {"sizes", sizes}};
}

bool same_elements(const Tensor& a, const Tensor& b) {
  return a.impl() == b.impl() || (a.impl()->buffer.get() == b.impl()->buffer.get() && a.type() == b.type() &&
                                  a.impl()->strides == b.impl()->strides && a.impl()->offset == b.impl()->offset);
}

// SafeTensors has no name for dtypes below 8 bits: their bytes are stored as u8.
Tensor as_bytes(const Tensor& x) {
  const auto bytes = x.data<std::byte>();
  Tensor result = empty({static_cast<int64_t>(bytes.size())}, DType::U8);
  std::copy(bytes.begin(), bytes.end(), mutable_data(result));
  return result;
}

// The table of constants under names, and the text that lists them.
std::string name_constants(const Tensors& table, const SaveOptions& options, StateDict& tensors) {
  Json list = Json::array();
  std::set<std::string> taken;
  for (const auto& [name, weight] : options.weights) taken.insert(name);
  std::set<std::string> used;
  for (size_t i = 0; i < table.size(); ++i) {
    std::string name;
    for (const auto& [known, weight] : options.weights) {
      if (weight.defined() && weight.is_concrete() && !used.contains(known) && same_elements(weight, table[i])) {
        name = known;
        break;
      }
    }
    for (size_t k = i; name.empty(); ++k) {
      name = fmt::format("constant.{}", k);
      if (taken.contains(name) || used.contains(name)) name.clear();
    }
    used.insert(name);
    const Tensor x = exec::contiguous(table[i]);
    const bool packed = info(x.dtype()).bits < 8;
    Json entry{{"tensor", name}};
    if (packed) {
      entry["dtype"] = std::string(tenon::name(x.dtype()));
      entry["shape"] = std::vector<int64_t>(x.shape().begin(), x.shape().end());
    }
    list.push_back(std::move(entry));
    tensors.set(name, packed ? as_bytes(x) : x);
  }
  return list.dump();
}

void check_options(const std::string& where, const SaveOptions& options) {
  if (!options.preprocessing.empty() && !Json::accept(options.preprocessing))
    throw ValueError({where, "the preprocessing is not JSON", "{\"scale\": 0.00392}", options.preprocessing, {}});
  for (const auto& [key, text] : options.metadata) {
    if (key.starts_with("tenon."))
      throw ValueError({where, "keys that begin with \"tenon.\" are the format's own", {}, key, {}});
  }
}

void check_graph(const std::string& where, const ir::Graph& graph) {
  const std::string defect = ir::find_defect(graph, ops::catalog(), ops::type_rule());
  if (!defect.empty()) throw ValueError({where, "the graph is not well-formed: " + defect, {}, {}, {}});
}

}  // namespace

std::string to_string(const TensorSpec& spec) {
  return fmt::format("{}[{}]", name(spec.dtype), fmt::join(spec.shape, ", "));
}

Signature signature_of(const ir::Graph& graph) {
  const ir::VaryingTable varying(graph);
  std::set<std::string> taken;
  const auto spec = [&](ir::ValueId id, const std::string& fallback) {
    const ir::Value& value = graph.values[static_cast<size_t>(id)];
    TensorSpec result{value.name.empty() ? fallback : value.name, value.type.dtype, {}};
    while (!taken.insert(result.name).second) result.name += "_";
    for (size_t axis = 0; axis < value.type.shape.size(); ++axis) {
      const ir::Varying* v = varying.extent(id, axis);
      result.shape.push_back(!v ? std::to_string(value.type.shape[axis]) : v->expr ? to_string(*v->expr) : "?");
    }
    return result;
  };
  Signature signature;
  signature.sizes = graph.sizes;
  for (size_t i = 0; i < graph.inputs.size(); ++i)
    signature.inputs.push_back(spec(graph.inputs[i], fmt::format("input{}", i)));
  for (size_t i = 0; i < graph.outputs.size(); ++i)
    signature.outputs.push_back(spec(graph.outputs[i], fmt::format("output{}", i)));
  return signature;
}

void save(const std::filesystem::path& path, const std::map<std::string, ir::Graph>& functions,
          const SaveOptions& options) {
  const std::string where = path.string();
  check_options(where, options);
  if (functions.empty()) throw ValueError({where, "a package holds at least one function", {}, {}, {}});
  std::map<std::string, std::string> metadata = options.metadata;
  metadata["tenon.format"] = std::to_string(kPackageFormat);
  metadata["tenon.producer"] = "tenon " TENON_VERSION;
  Tensors table;
  std::map<std::string, int> ops;
  Json names = Json::array();
  const auto is_weight = [&](const Tensor& x) {
    return std::any_of(options.weights.begin(), options.weights.end(), [&](const auto& entry) {
      return entry.second.defined() && entry.second.is_concrete() && same_elements(entry.second, x);
    });
  };
  for (const auto& [name, graph] : functions) {
    check_graph(where, graph);
    const ir::Graph pruned = ir::prune(graph);
    metadata["tenon.graph." + name] = ir::to_text(pruned, ops::catalog(), {.table = &table, .in_table = is_weight});
    metadata["tenon.signature." + name] = signature_json(signature_of(pruned)).dump();
    collect_ops(pruned, ops);
    names.push_back(name);
  }
  metadata["tenon.functions"] = names.dump();
  metadata["tenon.ops"] = Json(ops).dump();
  StateDict tensors;
  metadata["tenon.constants"] = name_constants(table, options, tensors);
  if (!options.labels.empty()) metadata["tenon.labels"] = Json(options.labels).dump();
  if (!options.preprocessing.empty()) metadata["tenon.preprocessing"] = options.preprocessing;
  if (!options.doc.empty()) metadata["tenon.doc"] = options.doc;
  if (!options.licence.empty()) metadata["tenon.licence"] = options.licence;
  Json texts = Json::object(), sums = Json::object();
  for (const auto& [key, text] : metadata) {
    if (key.starts_with("tenon.")) texts[key] = sha256(std::as_bytes(std::span(text)));
  }
  for (const auto& [name, tensor] : tensors) sums[name] = sha256(tensor.data<std::byte>());
  metadata["tenon.sha256"] = Json{{"texts", texts}, {"tensors", sums}}.dump();
  formats::save_safetensors(path, tensors, metadata);
}

void save(const std::filesystem::path& path, const ir::Graph& graph, const SaveOptions& options) {
  save(path, std::map<std::string, ir::Graph>{{"main", graph}}, options);
}

void save(const std::filesystem::path& path, const trace::Function& fn, const std::vector<InputSpec>& inputs,
          const SaveOptions& options) {
  const ir::Graph graph = capture(fn, inputs, {.outputs = options.outputs, .weights = options.weights, .check = false});
  if (options.check) check_capture(graph, fn);
  save(path, graph, options);
}

}  // namespace tenon
