#include "tenon/formats/onnx/export_writer.h"

#include <fmt/format.h>

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/exec/evaluate.h"
#include "tenon/formats/onnx/proto_write.h"
#include "tenon/formats/onnx/value.h"
#include "tenon/ir/text.h"
#include "tenon/ops/catalog.h"

namespace tenon::formats::onnx {

Attribute attribute(std::string name, int64_t value) {
  Attribute a;
  a.name = std::move(name);
  a.type = 2;
  a.i = value;
  return a;
}
Attribute attribute(std::string name, double value) {
  Attribute a;
  a.name = std::move(name);
  a.type = 1;
  a.f = static_cast<float>(value);
  return a;
}
Attribute attribute(std::string name, std::string value) {
  Attribute a;
  a.name = std::move(name);
  a.type = 3;
  a.s = std::move(value);
  return a;
}
Attribute attribute(std::string name, std::vector<int64_t> values) {
  Attribute a;
  a.name = std::move(name);
  a.type = 7;
  a.ints = std::move(values);
  return a;
}

// ---- expressions of sizes ------------------------------------------------------------------
ir::SizeExpr number(int64_t value) { return {value, {}, 1, 1, 0}; }

ir::SizeExpr times(const ir::SizeExpr& a, int64_t factor) {
  ir::SizeExpr result = a;
  if (a.divisor != 1) {
    result.scale *= factor;
    result.offset *= factor;
    return result;
  }
  result.constant *= factor;
  for (auto& term : result.terms) term.factor *= factor;
  if (factor == 0) result.terms.clear();
  return result;
}

ir::SizeExpr plus(const ir::SizeExpr& a, const ir::SizeExpr& b) {
  if (a.divisor != 1 && b.divisor != 1)
    throw UnsupportedError({"ONNX export", "a sum of two rounded quotients of sizes", {}, {}, {}});
  if (b.divisor != 1) return plus(b, a);
  ir::SizeExpr result = a;
  if (a.divisor != 1) {
    if (!b.is_constant()) throw UnsupportedError({"ONNX export", "a sum of a quotient and a size", {}, {}, {}});
    result.offset += b.constant;
    return result;
  }
  result.constant += b.constant;
  for (const auto& term : b.terms) {
    const auto same = std::find_if(result.terms.begin(), result.terms.end(),
                                   [&](const ir::SizeTerm& t) { return t.names == term.names; });
    if (same == result.terms.end()) {
      result.terms.push_back(term);
      continue;
    }
    same->factor += term.factor;
    if (same->factor == 0) result.terms.erase(same);
  }
  return result;
}

// ---- the model -----------------------------------------------------------------------------
namespace {

bool same_elements(const Tensor& a, const Tensor& b) {
  return a.impl() == b.impl() || (a.impl()->buffer.get() == b.impl()->buffer.get() && a.type() == b.type() &&
                                  a.impl()->strides == b.impl()->strides && a.impl()->offset == b.impl()->offset);
}

std::string describe(const ir::Graph& graph, const ir::Node& node) {
  std::string text(node.op->name);
  text += "(";
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    text += i > 0 ? ", " : "";
    text += node.inputs[i] == ir::kAbsent ? "_" : to_string(graph.type(node.inputs[i]));
  }
  // An op that is its own body is not in a body.
  const bool itself = node.path.starts_with(fmt::format("{}{}#", kBodyOf, node.op->name));
  return text + ")" + (node.path.empty() || itself ? "" : " in " + node.path);
}

std::vector<bool> used_values(const ir::Graph& graph) {
  std::vector<bool> used(graph.values.size(), false);
  const auto mark = [&](ir::ValueId id) {
    if (id != ir::kAbsent) used[static_cast<size_t>(id)] = true;
  };
  for (const auto& node : graph.nodes) std::for_each(node.inputs.begin(), node.inputs.end(), mark);
  std::for_each(graph.outputs.begin(), graph.outputs.end(), mark);
  return used;
}

ValueInfo info_of(const ir::Graph& graph, const ir::VaryingTable& varying, ir::ValueId id, std::string name) {
  ValueInfo info = ModelWriter::value_info(std::move(name), graph.type(id).dtype);
  info.type.has_shape = true;
  const Shape& shape = graph.type(id).shape;
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    const ir::Varying* v = varying.extent(id, axis);
    info.type.dims.push_back(!v ? std::to_string(shape[axis]) : v->expr ? ir::to_string(*v->expr) : "");
  }
  return info;
}

void rename_in(std::vector<NodeData>& nodes, const std::string& from, const std::string& to) {
  for (NodeData& node : nodes) {
    for (auto& name : node.inputs) {
      if (name == from) name = to;
    }
    for (auto& name : node.outputs) {
      if (name == from) name = to;
    }
    for (auto& a : node.attributes) {
      if (!a.graph) continue;
      auto inner = std::make_shared<GraphData>(*a.graph);
      rename_in(inner->nodes, from, to);
      a.graph = std::move(inner);
    }
  }
}

}  // namespace

ModelWriter::ModelWriter(const ir::Graph& graph, const ExportOptions& options)
    : options_(options), graph_(expand_for_export(graph, options.opset)), target_(&model_.graph) {}

ValueInfo ModelWriter::value_info(std::string name, DType dtype) {
  ValueInfo info;
  info.name = std::move(name);
  info.type.kind = TypeData::Kind::Tensor;
  info.type.element = data_type_of(dtype);
  return info;
}

std::string ModelWriter::fresh(std::string_view hint) {
  std::string name(hint);
  for (size_t k = taken_.size(); !taken_.insert(name).second; ++k) name = fmt::format("{}_{}", hint, k);
  return name;
}

Names ModelWriter::add(std::string_view type, Names inputs, std::vector<Attribute> attributes, size_t results) {
  Names names;
  for (size_t i = 0; i < results; ++i) names.push_back(fresh(fmt::format("{}_out{}", type, taken_.size())));
  add_named(type, std::move(inputs), std::move(attributes), names);
  return names;
}

void ModelWriter::add_named(std::string_view type, Names inputs, std::vector<Attribute> attributes, Names results) {
  while (!inputs.empty() && inputs.back().empty()) inputs.pop_back();
  NodeData node;
  node.op_type = std::string(type);
  node.name = fmt::format("{}_{}", type, target_->nodes.size());
  node.inputs = std::move(inputs);
  node.outputs = std::move(results);
  node.attributes = std::move(attributes);
  target_->nodes.push_back(std::move(node));
  if (target_ == &model_.graph) origins_.push_back(origin_);
}

std::string ModelWriter::constant(const Tensor& value, std::string_view hint) {
  for (const auto& [known, name] : weights_) {
    if (same_elements(known, value)) return name;
  }
  const Tensor x = exec::contiguous(value.impl()->weak ? strengthen(value) : value);
  const auto bytes = x.data<std::byte>();
  std::string key;
  constexpr size_t kSmall = 64;
  if (bytes.size() <= kSmall) {
    key = fmt::format("{}:", to_string(x.type())) +
          std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (const auto found = small_.find(key); found != small_.end()) return found->second;
  }
  std::string name;
  for (const auto& [known, weight] : options_.weights) {
    if (weight.defined() && weight.is_concrete() && !taken_.contains(known) && same_elements(weight, value)) {
      name = fresh(known);
      break;
    }
  }
  if (name.empty()) name = fresh(fmt::format("{}{}", hint, model_.graph.initializers.size()));
  TensorData data;
  data.name = name;
  data.dims.assign(x.shape().begin(), x.shape().end());
  data.type = data_type_of(x.dtype());
  data.has_raw = true;
  data.raw = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  model_.graph.initializers.push_back(std::move(data));
  weights_.emplace_back(value, name);
  if (x.impl() != value.impl()) weights_.emplace_back(x, name);  // keeps the elements alive
  if (!key.empty()) small_[key] = name;
  return name;
}

std::string ModelWriter::size(const std::string& name) {
  if (const auto found = sizes_.find(name); found != sizes_.end()) return found->second;
  const ir::VaryingTable varying(graph_);
  for (size_t i = 0; i < graph_.inputs.size(); ++i) {
    const ir::ValueId id = graph_.inputs[i];
    for (size_t axis = 0; axis < graph_.type(id).shape.size(); ++axis) {
      const ir::Varying* v = varying.extent(id, axis);
      if (!v || !v->expr || !v->expr->name() || *v->expr->name() != name) continue;
      const auto at = static_cast<int64_t>(axis);
      std::string result;
      if (opset() >= 15) {
        result = add("Shape", {model_.graph.inputs[i].name}, {attribute("start", at), attribute("end", at + 1)}, 1)[0];
      } else {
        const std::string shape = add("Shape", {model_.graph.inputs[i].name}, {}, 1)[0];
        result = add("Gather", {shape, list({number(at)})}, {attribute("axis", 0)}, 1)[0];
      }
      return sizes_[name] = result;
    }
  }
  throw UnsupportedError(
      {"ONNX export", fmt::format("no input has the size '{}' as an extent by itself", name), {}, {}, {}});
}

// The value as an i64[1], by nodes of the main graph: it depends on the inputs alone.
std::string ModelWriter::expression(const ir::SizeExpr& expr) {
  const std::string key = "expr " + ir::to_string(expr);
  if (const auto found = small_.find(key); found != small_.end()) return found->second;
  const auto integer = [&](int64_t value) { return list({number(value)}); };
  std::string sum;
  const auto add_up = [&](const std::string& part) { sum = sum.empty() ? part : add("Add", {sum, part}, {}, 1)[0]; };
  for (const auto& term : expr.terms) {
    std::string product = size(term.names[0]);
    for (size_t k = 1; k < term.names.size(); ++k) product = add("Mul", {product, size(term.names[k])}, {}, 1)[0];
    if (term.factor != 1) product = add("Mul", {product, integer(term.factor)}, {}, 1)[0];
    add_up(product);
  }
  if (expr.constant != 0) add_up(integer(expr.constant));
  if (expr.divisor != 1) {
    // Rounded down, also below 0: Mod has the divisor's sign.
    const std::string divisor = integer(expr.divisor);
    const std::string rest = add("Mod", {sum, divisor}, {}, 1)[0];
    sum = add("Div", {add("Sub", {sum, rest}, {}, 1)[0], divisor}, {}, 1)[0];
    if (expr.scale != 1) sum = add("Mul", {sum, integer(expr.scale)}, {}, 1)[0];
    if (expr.offset != 0) add_up(integer(expr.offset));
  }
  return small_[key] = sum;
}

std::string ModelWriter::list(const Exprs& numbers) {
  if (std::all_of(numbers.begin(), numbers.end(), [](const auto& e) { return e.is_constant(); })) {
    std::vector<int64_t> values;
    for (const auto& e : numbers) values.push_back(ir::evaluate(e, {}));
    return constant(from_vector(values, {static_cast<int64_t>(values.size())}), "shape");
  }
  std::string key = "list";
  for (const auto& e : numbers) key += " " + ir::to_string(e) + ",";
  if (const auto found = small_.find(key); found != small_.end()) return found->second;
  GraphData* const around = std::exchange(target_, &model_.graph);
  const Origin origin = std::exchange(origin_, {.function = {}, .sizes = true});
  Names parts;
  for (const auto& e : numbers) parts.push_back(e.is_constant() ? list({e}) : expression(e));
  std::string result = parts.size() == 1 ? parts[0] : add("Concat", parts, {attribute("axis", 0)}, 1)[0];
  target_ = around;
  origin_ = origin;
  return small_[key] = result;
}

Attribute ModelWriter::subgraph(std::string attribute_name, const std::function<void(GraphData&)>& fill) {
  auto graph = std::make_shared<GraphData>();
  graph->name = fresh(attribute_name);
  GraphData* const around = std::exchange(target_, graph.get());
  fill(*graph);
  target_ = around;
  Attribute a;
  a.name = std::move(attribute_name);
  a.type = 5;
  a.graph = std::move(graph);
  return a;
}

Names ModelWriter::inlined(const ir::Graph& graph, const Names& operands) {
  std::unordered_map<ir::ValueId, std::string> names;
  for (size_t i = 0; i < graph.inputs.size(); ++i) names[graph.inputs[i]] = operands[i];
  write_nodes(graph, names);
  Names out;
  for (const ir::ValueId id : graph.outputs) out.push_back(names.at(id));
  return out;
}

void ModelWriter::write_nodes(const ir::Graph& graph, std::unordered_map<ir::ValueId, std::string>& names) {
  const ir::VaryingTable varying(graph);
  const std::vector<bool> used = used_values(graph);
  for (size_t n = 0; n < graph.nodes.size(); ++n) write_node(graph, varying, n, used, names);
}

std::string ModelWriter::written_constant(const ir::Node& node, const ir::VaryingTable& varying, size_t index) {
  bool varies = false;
  Exprs elements;
  if (!varying.empty() && node.constant.size() <= 16) {
    const std::vector<double> values = node.constant.to_vector<double>();
    for (size_t k = 0; k < values.size(); ++k) {
      const ir::Varying* v = varying.element(index, k);
      varies = varies || v;
      // Only an integer constant varies, with a size; a float may be infinite.
      if (v || is_integer(node.constant.dtype()))
        elements.push_back(v ? *v->expr : number(static_cast<int64_t>(values[k])));
    }
  }
  if (!varies) return constant(node.constant);
  const std::string flat = list(elements);
  Exprs shape;
  for (const int64_t extent : node.constant.shape()) shape.push_back(number(extent));
  const std::string shaped = add("Reshape", {flat, list(shape)}, {}, 1)[0];
  return add("Cast", {shaped}, {attribute("to", static_cast<int64_t>(data_type_of(node.constant.dtype())))}, 1)[0];
}

void ModelWriter::write_node(const ir::Graph& graph, const ir::VaryingTable& varying, size_t index,
                             const std::vector<bool>& used, std::unordered_map<ir::ValueId, std::string>& names) {
  const ir::Node& node = graph.nodes[index];
  if (&graph == &graph_)
    origin_ = {.function = node.path.starts_with(kBodyOf) ? node.path : std::string(), .sizes = false};
  try {
    if (!node.op) {
      names[node.outputs[0]] = written_constant(node, varying, index);
      return;
    }
    NodeWriter writer(*this, graph, varying, index, used, names);
    const ExportRule* rule = find_export_rule(node.op->name);
    if (!rule) writer.unsupported("it has no ONNX form");
    if (!rule->write) writer.unsupported(std::string(rule->reason));
    if (opset() < rule->since) writer.unsupported(fmt::format("its form needs opset {}", rule->since));
    std::vector<TensorType> in, out;
    if (!rule_applies(*rule, facts_of(graph, node, opset(), in, out)))
      writer.unsupported("it has no ONNX form with these operands and attributes");
    rule->write(writer);
  } catch (const UnsupportedError& error) {
    problems_.push_back(fmt::format("{}: {}", node.op ? describe(graph, node) : "a constant", error.parts().problem));
    for (const ir::ValueId id : node.outputs) names.try_emplace(id, "?");
  }
}

ModelData ModelWriter::write() {
  const ir::VaryingTable varying(graph_);
  std::unordered_map<ir::ValueId, std::string> names;
  model_.graph.name = graph_.name.empty() ? "tenon" : graph_.name;
  for (size_t i = 0; i < graph_.inputs.size(); ++i) {
    const std::string& known = graph_.values[static_cast<size_t>(graph_.inputs[i])].name;
    const std::string name = fresh(known.empty() ? fmt::format("input{}", i) : known);
    names[graph_.inputs[i]] = name;
    model_.graph.inputs.push_back(info_of(graph_, varying, graph_.inputs[i], name));
  }
  Names outputs;
  for (size_t i = 0; i < graph_.outputs.size(); ++i) {
    const ir::ValueId id = graph_.outputs[i];
    const std::string& known = graph_.values[static_cast<size_t>(id)].name;
    const bool again = known.empty() || taken_.contains(known);
    outputs.push_back(fresh(again ? fmt::format("output{}", i) : known));
    model_.graph.outputs.push_back(info_of(graph_, varying, id, outputs.back()));
  }
  write_nodes(graph_, names);
  if (!problems_.empty()) {
    std::string text;
    for (const auto& problem : problems_) text += "\n  " + problem;
    throw UnsupportedError({"ONNX export",
                            fmt::format("{} nodes have no form in opset {}:{}", problems_.size(), opset(), text),
                            {},
                            {},
                            {}});
  }
  origin_ = {};
  // A result gets its name where it is made; an input, a weight, or a value that is two results is handed through.
  std::set<std::string> made;
  for (const auto& node : model_.graph.nodes) made.insert(node.outputs.begin(), node.outputs.end());
  for (size_t i = 0; i < outputs.size(); ++i) {
    const std::string from = names.at(graph_.outputs[i]);
    if (made.erase(from) == 0) {
      add_named("Identity", {from}, {}, {outputs[i]});
      continue;
    }
    rename_in(model_.graph.nodes, from, outputs[i]);
    for (auto& [id, name] : names) {
      if (name == from) name = outputs[i];
    }
  }
  model_.ir_version = opset() >= 21 ? 10 : opset() >= 19 ? 9 : opset() >= 15 ? 8 : 7;
  model_.producer_name = "tenon";
  model_.producer_version = TENON_VERSION;
  model_.doc = options_.doc;
  model_.metadata = options_.metadata;
  model_.opsets[""] = opset();
  outline_functions(model_, origins_, options_.weights, opset());
  return std::move(model_);
}

// ---- one node ------------------------------------------------------------------------------
Names NodeWriter::ins() const {
  Names names;
  for (size_t i = 0; i < operands(); ++i) names.push_back(in(i));
  return names;
}

namespace {
Exprs extents_of(const NodeWriter& writer, const ir::VaryingTable& varying, ir::ValueId id, const Shape& shape) {
  Exprs list;
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    const ir::Varying* v = varying.extent(id, axis);
    if (v && !v->expr) writer.unsupported("an extent depends on the sizes in a way that cannot be written down");
    list.push_back(v ? *v->expr : number(shape[axis]));
  }
  return list;
}
}  // namespace

Exprs NodeWriter::extents(size_t operand) const {
  return extents_of(*this, varying_, node().inputs[operand], type(operand).shape);
}
Exprs NodeWriter::result_extents(size_t result) const {
  return extents_of(*this, varying_, node().outputs[result], result_type(result).shape);
}

Exprs NodeWriter::numbers(size_t attribute) const {
  Exprs list;
  const auto add = [&](size_t element, int64_t value) {
    const ir::Varying* v = varying_.attribute(index_, attribute, element);
    list.push_back(v ? *v->expr : number(value));
  };
  if (const auto* integer = std::get_if<int64_t>(&attrs()[attribute])) {
    add(0, *integer);
  } else {
    const Ints& values = attrs().ints(attribute);
    for (size_t k = 0; k < values.size(); ++k) add(k, values[k]);
  }
  return list;
}

std::vector<int64_t> NodeWriter::fixed(size_t attribute) const {
  std::vector<int64_t> values;
  for (const auto& e : numbers(attribute)) {
    if (!e.is_constant())
      unsupported(fmt::format("its attribute '{}' depends on the sizes, and ONNX needs a number there",
                              node().op->attrs[attribute].name));
    values.push_back(e.constant);
  }
  return values;
}

double NodeWriter::real(size_t attribute) const {
  if (varying_.attribute(index_, attribute, 0))
    unsupported(fmt::format("its attribute '{}' depends on the sizes, and ONNX needs a number there",
                            node().op->attrs[attribute].name));
  return attrs().real(attribute);
}

std::string NodeWriter::list(const std::vector<int64_t>& values) {
  Exprs exprs;
  for (const int64_t value : values) exprs.push_back(number(value));
  return model_.list(exprs);
}

std::string NodeWriter::scalar(double value, DType dtype) { return model_.constant(strengthen(Tensor(value), dtype)); }

std::string NodeWriter::cast(const std::string& x, DType from, DType to) {
  if (from == to) return x;
  return op("Cast", {x}, {attribute("to", static_cast<int64_t>(data_type_of(to)))});
}

std::string NodeWriter::reshape(const std::string& x, const Exprs& shape) {
  std::vector<Attribute> attributes;
  const bool zero =
      std::any_of(shape.begin(), shape.end(), [](const auto& e) { return !e.is_constant() || e.constant == 0; });
  if (zero && opset() >= 14) attributes.push_back(attribute("allowzero", 1));
  return op("Reshape", {x, list(shape)}, std::move(attributes));
}

std::string NodeWriter::transpose(const std::string& x, std::vector<int64_t> order) {
  if (std::is_sorted(order.begin(), order.end())) return x;
  return op("Transpose", {x}, {attribute("perm", std::move(order))});
}

std::string NodeWriter::reduce(std::string_view type, const std::string& x, const std::vector<int64_t>& axes,
                               bool keepdims) {
  const bool as_input = opset() >= 18 || type == "ReduceSum";
  if (axes.empty()) return x;  // of a scalar
  if (as_input) return op(type, {x, list(axes)}, {attribute("keepdims", keepdims)});
  return op(type, {x}, {attribute("axes", axes), attribute("keepdims", keepdims)});
}

void NodeWriter::result(size_t i, std::string name) { names_[node().outputs[i]] = std::move(name); }

void NodeWriter::unsupported(std::string reason) const {
  throw UnsupportedError({"ONNX export", std::move(reason), {}, {}, {}});
}

// ---- files ---------------------------------------------------------------------------------
namespace {

void check_opset(const ExportOptions& options) {
  if (options.opset < kOldestExportOpset || options.opset > kNewestExportOpset)
    throw ValueError({"ONNX export",
                      "the opset is out of range",
                      fmt::format("{} to {}", kOldestExportOpset, kNewestExportOpset),
                      std::to_string(options.opset),
                      {}});
}

}  // namespace

std::string export_bytes(const ir::Graph& graph, const ExportOptions& options) {
  check_opset(options);
  ModelWriter writer(graph, options);
  const ModelData model = writer.write();
  return serialize(model);
}

void export_model(const std::filesystem::path& path, const ir::Graph& graph, const ExportOptions& options) {
  check_opset(options);
  ModelWriter writer(graph, options);
  ModelData model = writer.write();
  int64_t total = 0;
  for (const TensorData& data : model.graph.initializers) total += static_cast<int64_t>(data.raw.size());
  if (total > options.external_above) {
    const std::filesystem::path beside = path.string() + ".data";
    AtomicFile file(beside);
    constexpr size_t kSmallest = 1024, kAlignment = 64;
    size_t at = 0;
    for (TensorData& data : model.graph.initializers) {
      if (data.raw.size() < kSmallest) continue;
      const std::string padding((kAlignment - at % kAlignment) % kAlignment, '\0');
      file.write(padding);
      file.write(data.raw);
      at += padding.size();
      data.external = {{"location", beside.filename().string()},
                       {"offset", std::to_string(at)},
                       {"length", std::to_string(data.raw.size())}};
      at += data.raw.size();
    }
    file.commit();
  }
  write_file_atomic(path, serialize(model));
}

}  // namespace tenon::formats::onnx
