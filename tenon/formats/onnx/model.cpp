#include "tenon/formats/onnx/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <unordered_map>
#include <utility>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/base/nearest.h"
#include "tenon/formats/onnx/call.h"
#include "tenon/formats/onnx/node_watch.h"
#include "tenon/trace/state.h"

namespace tenon::formats::onnx {
namespace {

std::string describe(const NodeData& node) {
  const std::string op = node.domain.empty() ? node.op_type : node.domain + "." + node.op_type;
  return node.name.empty() ? fmt::format("node {}", op) : fmt::format("node '{}' ({})", node.name, op);
}

// What is known instead: the same name in another domain, or a name like it.
std::string nearest_form(const NodeData& node) {
  const auto full = [](const Rule& rule) {
    return fmt::format("{}.{}", rule.domain.empty() ? "ai.onnx" : rule.domain, rule.name);
  };
  std::vector<std::string_view> names;
  for (const Rule* rule : all_rules()) {
    if (rule->name == node.op_type) return "; the nearest is " + full(*rule);
    names.push_back(rule->name);
  }
  const std::string_view nearest = nearest_name(node.op_type, names);
  for (const Rule* rule : all_rules())
    if (rule->name == nearest) return "; the nearest is " + full(*rule);
  return {};
}

}  // namespace

// What each node means, found once when the model is read: its rule, or the function that it calls.
class Plan {
 public:
  struct Step {
    const Rule* rule = nullptr;
    const FunctionData* function = nullptr;
    std::string where;  // the model and the node, as errors name them
  };

  Plan(const ModelData& model, const std::string& where) : where_(where) {
    for (const FunctionData& f : model.functions)
      functions_.try_emplace(key(f.domain == "ai.onnx" ? "" : f.domain, f.name, f.overload), Entry{&f});
    resolve(model.graph.nodes);
    for (const FunctionData& f : model.functions) resolve(f.nodes);
    if (unsupported_.empty() && count(model.graph.nodes) > kMostNodes)
      throw FormatError({where,
                         "the functions call each other too often",
                         fmt::format("at most {} nodes", kMostNodes),
                         "more, all calls counted",
                         {}});
  }
  // Every node that cannot run, in sub-graphs and functions too.
  [[nodiscard]] const std::vector<UnsupportedNode>& unsupported() const { return unsupported_; }
  [[nodiscard]] const Step& of(const NodeData& node) const { return steps_.find(&node)->second; }

 private:
  static constexpr int64_t kMostNodes = 10'000'000;
  struct Entry {
    const FunctionData* function;
    int64_t nodes = -1;  // when all its calls are counted; -1: not yet
    bool open = false;
  };
  static std::string key(std::string_view domain, std::string_view name, std::string_view overload) {
    return fmt::format("{}\n{}\n{}", domain, name, overload);
  }
  Entry* function_of(const NodeData& node) {
    const auto found = functions_.find(key(node.domain, node.op_type, node.overload));
    return found == functions_.end() ? nullptr : &found->second;
  }

  // Once for each operator, and not for many or for long names: a file has room for millions of them.
  const std::string& hint(const NodeData& node) {
    static constexpr size_t kMostHints = 100, kLongestName = 64;
    static const std::string none;
    const auto found = hints_.find(node.op_type);
    if (found != hints_.end()) return found->second;
    if (hints_.size() >= kMostHints || node.op_type.size() > kLongestName) return none;
    return hints_.emplace(node.op_type, nearest_form(node)).first->second;
  }

  void resolve(const std::vector<NodeData>& nodes) {
    for (const NodeData& node : nodes) {
      const Entry* entry = function_of(node);  // a function of the model goes before an operator of that name
      Step step{.function = entry ? entry->function : nullptr, .where = fmt::format("{}: {}", where_, describe(node))};
      if (!entry) step.rule = find_rule(node.domain, node.op_type);
      if (!entry && !step.rule) unsupported_.push_back({describe(node), "the operator is not known" + hint(node)});
      steps_.emplace(&node, std::move(step));
      for (const auto& a : node.attributes) {
        if (a.graph) resolve(a.graph->nodes);
      }
    }
  }

  // Thirty functions that each call the next one twice are a billion nodes in a few bytes.
  int64_t count(const std::vector<NodeData>& nodes) {
    int64_t sum = 0;
    for (const NodeData& node : nodes) {
      Entry* entry = function_of(node);
      sum += entry ? count(*entry) : 1;
      for (const auto& a : node.attributes) {
        if (a.graph) sum += count(a.graph->nodes);
      }
      sum = std::min(sum, kMostNodes + 1);
    }
    return sum;
  }
  int64_t count(Entry& entry) {
    constexpr int kDeepest = 200;
    if (entry.nodes >= 0) return entry.nodes;
    if (entry.open || depth_ >= kDeepest)
      throw FormatError({where_,
                         fmt::format("function '{}': functions call each other without end", entry.function->name),
                         {},
                         {},
                         {}});
    entry.open = true;
    ++depth_;
    entry.nodes = count(entry.function->nodes);
    --depth_;
    return entry.nodes;
  }

  std::string where_;
  std::unordered_map<const NodeData*, Step> steps_;
  std::unordered_map<std::string, Entry> functions_;
  std::unordered_map<std::string, std::string> hints_;  // by operator
  std::vector<UnsupportedNode> unsupported_;
  int depth_ = 0;
};

namespace {

// Names and their values, with those of the graph around behind them; behind the outermost the model's weights.
struct Scope {
  const Scope* outer = nullptr;
  const std::map<std::string, Value>* weights = nullptr;
  std::unordered_map<std::string, Value> values{};

  [[nodiscard]] const Value* find(const std::string& name) const {
    for (const Scope* s = this; s; s = s->outer) {
      if (const auto found = s->values.find(name); found != s->values.end()) return &found->second;
      if (!s->weights) continue;
      if (const auto found = s->weights->find(name); found != s->weights->end()) return &found->second;
    }
    return nullptr;
  }
};

}  // namespace

Value NodeWatch::same(const void* place, Value value) {
  constexpr int64_t kSmall = 16;
  const Tensor* x = value.tensor();
  if (!x || !x->is_concrete() || x->size() <= kSmall || !x->is_contiguous()) return value;
  const auto [at, fresh] = constants.try_emplace(place, *x);
  // An attribute of the function around is another one at the next call.
  if (fresh || at->second.type() != x->type() ||
      !std::ranges::equal(at->second.data<std::byte>(), x->data<std::byte>()))
    return value;
  return at->second;
}

namespace {

// A weight inside of a graph stays as it is in a capture, like those that are parameters (capture.h).
Value kept(Value value) {
  const auto& recorders = trace::state().recorders;
  const Tensor* x = value.tensor();
  if (!recorders.empty() && x && x->is_concrete() && x->ndim() >= 2 && x->size() > 16) recorders.front()->keep(*x);
  return value;
}

class Runner {
 public:
  Runner(const Plan& plan, const std::string& where, NodeWatch* watch = nullptr)
      : plan_(plan), where_(where), watch_(watch) {}

  // The attributes of the function call around, if any.
  using FunctionAttributes = std::map<std::string, const Attribute*>;

  Values run(const GraphData& graph, Scope& scope, const std::map<std::string, int64_t>& opsets,
             const FunctionAttributes* around) {
    if (!scope.weights) {  // else they are there
      for (const auto& data : graph.initializers) {
        if (!scope.values.contains(data.name))
          scope.values[data.name] = weight(&data, read_tensor(data, nullptr, {}, where_));
      }
    }
    run_nodes(graph.nodes, scope, opsets, around);
    Values out;
    for (const auto& output : graph.outputs) {
      const Value* value = scope.find(output.name);
      if (!value) throw FormatError({where_, fmt::format("output '{}' is made by no node", output.name), {}, {}, {}});
      out.push_back(*value);
    }
    return out;
  }

 private:
  // What stands at this place of the file.
  Value weight(const void* place, Value value) {
    return kept(watch_ != nullptr ? watch_->same(place, std::move(value)) : std::move(value));
  }

  void run_nodes(const std::vector<NodeData>& nodes, Scope& scope, const std::map<std::string, int64_t>& opsets,
                 const FunctionAttributes* around) {
    for (const NodeData& node : nodes) {
      Values in;
      for (const auto& name : node.inputs) {
        if (name.empty()) {
          in.emplace_back();
          continue;
        }
        const Value* value = scope.find(name);
        if (!value)
          throw FormatError(
              {where_, fmt::format("{} reads '{}', which nothing before it makes", describe(node), name), {}, {}, {}});
        in.push_back(*value);
      }
      const bool constant = in.empty();
      Values out = call(node, std::move(in), scope, opsets, around);
      if (constant && out.size() == 1) out[0] = weight(&node, std::move(out[0]));
      for (size_t i = 0; i < node.outputs.size(); ++i) {
        if (node.outputs[i].empty()) continue;
        if (i >= out.size())
          throw UnsupportedError(
              {fmt::format("{}: {}", where_, describe(node)), fmt::format("output {} is not computed", i), {}, {}, {}});
        scope.values[node.outputs[i]] = std::move(out[i]);
      }
    }
  }

  Values call(const NodeData& node, Values in, Scope& scope, const std::map<std::string, int64_t>& opsets,
              const FunctionAttributes* around) {
    std::vector<Attribute> renamed;
    renamed.reserve(node.attributes.size());
    std::vector<const Attribute*> attributes;
    for (const auto& a : node.attributes) {
      if (a.reference.empty()) {
        attributes.push_back(&a);
        continue;
      }
      if (!around) continue;
      const auto found = around->find(a.reference);
      if (found == around->end()) continue;
      renamed.push_back(*found->second);
      renamed.back().name = a.name;
      attributes.push_back(&renamed.back());
    }
    const Plan::Step& step = plan_.of(node);
    if (step.function) return call_function(*step.function, std::move(in), attributes);
    const std::string& where = step.where;
    const auto opset = opsets.find(node.domain);
    Call c{node,
           std::move(in),
           opset == opsets.end() ? 1 : opset->second,
           where,
           attributes,
           [&](const GraphData& graph, Values inputs) {
             Scope inner{.outer = &scope};
             if (inputs.size() != graph.inputs.size())
               throw FormatError({where,
                                  fmt::format("graph '{}' has another number of inputs", graph.name),
                                  std::to_string(graph.inputs.size()),
                                  std::to_string(inputs.size()),
                                  {}});
             for (size_t i = 0; i < inputs.size(); ++i) inner.values[graph.inputs[i].name] = std::move(inputs[i]);
             return run(graph, inner, opsets, around);
           },
           watch_ != nullptr};
    try {
      return watch_ != nullptr ? watched(*step.rule, c) : step.rule->compute(c);
    } catch (const ShapeError& error) {
      throw ShapeError(named(error, where));
    } catch (const DTypeError& error) {
      throw DTypeError(named(error, where));
    } catch (const IndexError& error) {
      throw IndexError(named(error, where));
    } catch (const ValueError& error) {
      throw ValueError(named(error, where));
    }
  }

  Values watched(const Rule& rule, Call& c) {
    const NodeData* around = std::exchange(watch_->node, &c.node);
    if (rule.random) c.draws();
    if (--watch_->nodes_left < 0) c.unsupported("loops are unrolled, and that would be too many nodes");
    Values out = rule.compute(c);
    watch_->node = around;
    return out;
  }

  // The error of a function that a rule called, under the node's name.
  static ErrorParts named(const Error& error, const std::string& where) {
    ErrorParts parts = error.parts();
    if (parts.where.starts_with(where)) return parts;
    parts.problem = parts.where.empty() ? parts.problem : fmt::format("{}: {}", parts.where, parts.problem);
    parts.where = where;
    return parts;
  }

  Values call_function(const FunctionData& function, Values in, const std::vector<const Attribute*>& attributes) {
    FunctionAttributes given;
    for (const auto& a : function.defaults) given[a.name] = &a;
    for (const Attribute* a : attributes) given[a->name] = a;
    Scope scope;
    for (size_t i = 0; i < function.inputs.size(); ++i)
      scope.values[function.inputs[i]] = i < in.size() ? std::move(in[i]) : Value();
    run_nodes(function.nodes, scope, function.opsets, &given);
    Values out;
    for (const auto& name : function.outputs) {
      const Value* value = scope.find(name);
      out.push_back(value ? *value : Value());
    }
    return out;
  }

  const Plan& plan_;
  const std::string& where_;
  NodeWatch* watch_;
};

void check_input(const ValueInfo& info, const Value& value, const std::string& where) {
  const TypeData& type = info.type;
  if (type.kind != TypeData::Kind::Tensor || !value.tensor()) return;
  const Tensor& x = *value.tensor();
  if (has_dtype(type.element) && x.dtype() != dtype_of(type.element, where))
    throw DTypeError({where,
                      fmt::format("input '{}' has another element type", info.name),
                      std::string(name(dtype_of(type.element, where))),
                      std::string(name(x.dtype())),
                      {}});
  if (!type.has_shape) return;
  bool fits = type.dims.size() == x.shape().size();
  for (size_t i = 0; fits && i < type.dims.size(); ++i) {
    const bool fixed = !type.dims[i].empty() && type.dims[i].find_first_not_of("0123456789") == std::string::npos;
    fits = !fixed || type.dims[i] == std::to_string(x.shape()[i]);
  }
  if (!fits)
    throw ShapeError({where,
                      fmt::format("input '{}' has another shape", info.name),
                      fmt::format("[{}]", fmt::join(type.dims, ", ")),
                      to_string(x.shape()),
                      {}});
}

}  // namespace

Model Model::load(const std::filesystem::path& path) {
  auto file = std::make_shared<const MappedFile>(path);
  const auto bytes = file->bytes();
  const std::string folder = path.has_parent_path() ? path.parent_path().string() : ".";
  return parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, file, path.string(), folder, true);
}

Model Model::parse(std::string_view bytes, const std::shared_ptr<const void>& owner, const std::string& where,
                   const std::string& folder, bool mapped) {
  Model model;
  model.data_ = std::make_shared<const ModelData>(parse_model(bytes, where));
  model.where_ = where;
  model.owner_ = owner;
  model.plan_ = std::make_shared<const Plan>(*model.data_, where);
  const auto& unsupported = model.plan_->unsupported();
  if (!unsupported.empty()) {
    constexpr size_t kMostLines = 1000;  // a damaged file may have millions of nodes
    std::string list;
    for (size_t i = 0; i < std::min(unsupported.size(), kMostLines); ++i)
      list += fmt::format("\n  {}: {}", unsupported[i].node, unsupported[i].reason);
    if (unsupported.size() > kMostLines) list += fmt::format("\n  and {} more", unsupported.size() - kMostLines);
    throw UnsupportedError({where, fmt::format("{} nodes cannot run:{}", unsupported.size(), list), {}, {}, {}});
  }
  for (const auto& data : model.data_->graph.initializers)
    model.parameters_[data.name] = read_tensor(data, owner, folder, where, mapped);
  return model;
}

std::vector<ValueInfo> Model::inputs() const {
  std::vector<ValueInfo> list;
  for (const auto& info : data_->graph.inputs) {
    if (!parameters_.contains(info.name)) list.push_back(info);
  }
  return list;
}

void Model::set_parameter(const std::string& name, Tensor value) {
  const auto found = parameters_.find(name);
  if (found == parameters_.end()) throw ValueError({where_, "no parameter of this name", {}, name, {}});
  const Tensor* old = found->second.tensor();
  if (!old || old->type() != value.type())
    throw ShapeError({where_,
                      fmt::format("parameter '{}' has another type", name),
                      found->second.describe(),
                      to_string(value.type()),
                      {}});
  found->second = std::move(value);
}

Values Model::run(const std::map<std::string, Value>& inputs) const {
  Scope scope{.weights = &parameters_};
  size_t taken = 0;
  for (const auto& info : data_->graph.inputs) {
    const auto given = inputs.find(info.name);
    if (given == inputs.end()) {
      if (!parameters_.contains(info.name))
        throw ValueError({where_, fmt::format("input '{}' is not given", info.name), {}, {}, {}});
      continue;
    }
    check_input(info, given->second, where_);
    scope.values[info.name] = given->second;
    ++taken;
  }
  if (taken < inputs.size()) {
    std::set<std::string> known;
    for (const auto& info : data_->graph.inputs) known.insert(info.name);
    for (const auto& [name, value] : inputs) {
      if (!known.contains(name))
        throw ValueError(
            {where_, fmt::format("there is no input '{}'", name), fmt::format("{}", fmt::join(known, ", ")), name, {}});
    }
  }
  return Runner(*plan_, where_).run(data_->graph, scope, data_->opsets, nullptr);
}

Values Model::run_in_order(Values given) const { return run_in_order(std::move(given), nullptr); }

Values Model::run_in_order(Values given, NodeWatch* watch) const {
  Scope scope{.weights = &parameters_};
  size_t next = 0;
  for (const auto& info : data_->graph.inputs) {
    if (parameters_.contains(info.name)) continue;
    if (next < given.size()) {
      check_input(info, given[next], where_);
      scope.values[info.name] = std::move(given[next]);
    }
    ++next;
  }
  if (next != given.size())
    throw ValueError({where_, "another number of inputs", std::to_string(next), std::to_string(given.size()), {}});
  return Runner(*plan_, where_, watch).run(data_->graph, scope, data_->opsets, nullptr);
}

void Model::check_inputs(const Values& given) const {
  size_t next = 0;
  for (const auto& info : data_->graph.inputs)
    if (!parameters_.contains(info.name)) check_input(info, given[next++], where_);
}

Tensors Model::operator()(const Tensors& given) const {
  return tensors_of(run_in_order(Values(given.begin(), given.end())));
}

Tensors Model::tensors_of(const Values& outputs) const {
  Tensors out;
  for (const Value& value : outputs) {
    if (!value.tensor())
      throw UnsupportedError({where_, "an output is no tensor", {}, value.describe(), "run({{name, value}, …})"});
    out.push_back(*value.tensor());
  }
  return out;
}

}  // namespace tenon::formats::onnx
