#include "tenon/ops/control.h"

#include <fmt/format.h>

#include "tenon/base/error.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/table.h"

namespace tenon::ops {
namespace {

const ir::Graph& graph_of(const InferArgs& a, size_t attr) {
  const auto& graph = a.attrs.graph(attr);
  if (!graph) fail_value(a, fmt::format("the graph '{}' is missing", a.op.attrs[attr].name));
  return *graph;
}

size_t count_of(const InferArgs& a, size_t attr, size_t most) {
  const int64_t count = a.attrs.integer(attr);
  if (count < 0 || static_cast<size_t>(count) > most)
    fail_value(a, fmt::format("'{}' is out of range", a.op.attrs[attr].name), fmt::format("0 to {}", most),
               std::to_string(count));
  return static_cast<size_t>(count);
}

void expect_types(const InferArgs& a, std::string_view what, std::span<const ir::ValueId> ids, const ir::Graph& graph,
                  std::span<const TensorType> want) {
  if (ids.size() != want.size())
    fail_value(a, fmt::format("wrong number of {}", what), std::to_string(want.size()), std::to_string(ids.size()));
  for (size_t i = 0; i < ids.size(); ++i) {
    if (graph.type(ids[i]) != want[i])
      fail_shape(a, fmt::format("{}, number {}, has another type", what, i), to_string(want[i]),
                 to_string(graph.type(ids[i])));
  }
}

std::vector<TensorType> types_of(const ir::Graph& graph, std::span<const ir::ValueId> ids) {
  std::vector<TensorType> types;
  types.reserve(ids.size());
  for (ir::ValueId id : ids) types.push_back(graph.type(id));
  return types;
}

std::vector<TensorType> infer_cond(const InferArgs& a) {
  if (!a.in[0].shape.empty())
    fail_shape(a, "the predicate is not one truth value", "[]", to_string(a.in[0].shape), "any(x) or all(x)");
  const ir::Graph &then = graph_of(a, 0), &otherwise = graph_of(a, 1);
  expect_types(a, "inputs of 'then'", then.inputs, then, a.in.subspan(1));
  expect_types(a, "inputs of 'otherwise'", otherwise.inputs, otherwise, a.in.subspan(1));
  auto results = types_of(then, then.outputs);
  expect_types(a, "results of 'otherwise'", otherwise.outputs, otherwise, results);
  return results;
}

std::vector<TensorType> infer_while(const InferArgs& a) {
  const ir::Graph &condition = graph_of(a, 0), &body = graph_of(a, 1);
  const size_t carried = count_of(a, 2, a.in.size());
  const std::array<TensorType, 1> truth{TensorType{DType::Bool, {}}};
  expect_types(a, "inputs of 'condition'", condition.inputs, condition, a.in);
  expect_types(a, "results of 'condition'", condition.outputs, condition, truth);
  expect_types(a, "inputs of 'body'", body.inputs, body, a.in);
  expect_types(a, "results of 'body'", body.outputs, body, a.in.first(carried));
  return {a.in.begin(), a.in.begin() + static_cast<std::ptrdiff_t>(carried)};
}

std::vector<TensorType> infer_scan(const InferArgs& a) {
  const ir::Graph& body = graph_of(a, 0);
  const size_t carried = count_of(a, 1, a.in.size());
  const size_t scanned = count_of(a, 2, a.in.size() - carried);
  const int64_t length = a.attrs.integer(3);
  if (length < 0) fail_value(a, "'length' is negative", "0 or more", std::to_string(length));
  std::vector<TensorType> args(a.in.begin(), a.in.end());
  for (size_t i = carried; i < carried + scanned; ++i) {
    if (args[i].shape.empty() || args[i].shape[0] != length)
      fail_shape(a, fmt::format("scanned input {} has not one row for each step", i - carried),
                 fmt::format("[{}, …]", length), to_string(args[i].shape));
    args[i].shape.erase(args[i].shape.begin());
  }
  expect_types(a, "inputs of 'body'", body.inputs, body, args);
  auto results = types_of(body, body.outputs);
  if (results.size() < carried)
    fail_value(a, "'body' gives too few results", fmt::format("at least {}", carried), std::to_string(results.size()));
  expect_types(a, "carried results of 'body'", std::span(body.outputs).first(carried), body,
               std::span<const TensorType>(args).first(carried));
  for (size_t i = carried; i < results.size(); ++i) results[i].shape.insert(results[i].shape.begin(), length);
  return results;
}

// ---- samples: small graphs over f64[3] ----
const TensorType kRow{DType::F64, {3}};
const int kF64 = static_cast<int>(DType::F64);

ir::ValueId add(ir::Graph& g, std::string_view op, std::vector<ir::ValueId> in, const TensorType& result = kRow,
                ir::Attrs attrs = {}) {
  return g.add_node(*find(op), std::move(in), std::move(attrs), {result})[0];
}

// (x, y) -> sin(x) * y, or x + y
ir::GraphPtr branch(bool first) {
  ir::Graph g;
  const auto x = g.add_input(kRow), y = g.add_input(kRow);
  g.outputs = {first ? add(g, "multiply", {add(g, "sin", {x}), y}) : add(g, "add", {x, y})};
  return std::make_shared<const ir::Graph>(std::move(g));
}

std::vector<Sample> cond_samples() {
  std::vector<Sample> list;
  for (double choice : {0.0, 1.0})
    list.push_back({{{.shape = {}, .values = {choice}, .dtype = static_cast<int>(DType::Bool), .differentiable = false},
                     {.shape = {3}, .dtype = kF64},
                     {.shape = {3}, .dtype = kF64}},
                    {branch(true), branch(false)}});
  return list;
}
std::vector<InvalidSample> cond_invalid() {
  const SampleInput row{.shape = {3}, .dtype = kF64};
  const SampleInput one{.shape = {}, .values = {1}, .dtype = static_cast<int>(DType::Bool)};
  return {{{{.shape = {2}, .dtype = static_cast<int>(DType::Bool)}, row, row},
           {branch(true), branch(false)},
           "the predicate is not one truth value"},
          {{one, row}, {branch(true), branch(false)}, "wrong number of inputs of 'then'"},
          {{one, row, row}, {branch(true), ir::GraphPtr()}, "'otherwise' is missing"}};
}

// while sum(x) < limit: x = x * factor
ir::Attrs growing() {
  ir::Graph condition;
  const TensorType scalar{DType::F64, {}};
  {
    const auto x = condition.add_input(kRow);
    condition.add_input(kRow);
    const auto limit = condition.add_input(scalar);
    const auto total = add(condition, "sum", {x}, scalar, {Ints{}, false});
    condition.outputs = {add(condition, "less", {total, limit}, {DType::Bool, {}})};
  }
  ir::Graph body;
  {
    const auto x = body.add_input(kRow), factor = body.add_input(kRow);
    body.add_input(scalar);
    body.outputs = {add(body, "multiply", {x, factor})};
  }
  return {std::make_shared<const ir::Graph>(std::move(condition)), std::make_shared<const ir::Graph>(std::move(body)),
          int64_t{1}};
}

std::vector<Sample> while_samples() {
  return {{{{.shape = {3}, .low = 0.5, .high = 1, .dtype = kF64},
            {.shape = {3}, .low = 1.5, .high = 2, .dtype = kF64},
            {.shape = {}, .low = 20, .high = 30, .dtype = kF64}},
           growing()}};
}
std::vector<InvalidSample> while_invalid() {
  const SampleInput row{.shape = {3}, .dtype = kF64};
  return {{{row, row}, growing(), "wrong number of inputs of 'condition'"}};
}

// c = tanh(c + x) * w, row = c * x
ir::Attrs recurrence(int64_t length, bool reverse) {
  ir::Graph g;
  const auto c = g.add_input(kRow), x = g.add_input(kRow), w = g.add_input(kRow);
  const auto next = add(g, "multiply", {add(g, "tanh", {add(g, "add", {c, x})}), w});
  g.outputs = {next, add(g, "multiply", {next, x})};
  return {std::make_shared<const ir::Graph>(std::move(g)), int64_t{1}, int64_t{1}, length, reverse};
}

std::vector<Sample> scan_samples() {
  std::vector<Sample> list;
  for (const auto& [length, reverse] : {std::pair{int64_t{4}, false}, {int64_t{3}, true}, {int64_t{0}, false}})
    list.push_back(
        {{{.shape = {3}, .dtype = kF64}, {.shape = {length, 3}, .dtype = kF64}, {.shape = {3}, .dtype = kF64}},
         recurrence(length, reverse)});
  return list;
}
std::vector<InvalidSample> scan_invalid() {
  const SampleInput row{.shape = {3}, .dtype = kF64};
  return {{{row, {.shape = {2, 3}, .dtype = kF64}, row}, recurrence(4, false), "one row for each step"},
          {{row, {.shape = {4, 3}, .dtype = kF64}}, recurrence(4, false), "wrong number of inputs of 'body'"}};
}

}  // namespace

WhileAttrs::WhileAttrs(const ir::Attrs& attrs)
    : condition(*attrs.graph(0)), body(*attrs.graph(1)), carried(static_cast<size_t>(attrs.integer(2))) {}

ScanAttrs::ScanAttrs(const ir::Attrs& attrs)
    : body(*attrs.graph(0)),
      carried(static_cast<size_t>(attrs.integer(1))),
      scanned(static_cast<size_t>(attrs.integer(2))),
      length(attrs.integer(3)),
      reverse(attrs.flag(4)) {}

ir::Attrs with_body(const ir::Attrs& scan, ir::GraphPtr body) {
  ir::Attrs attrs = scan;
  attrs[0] = std::move(body);
  return attrs;
}

const OpDef& cond_op() {
  static const OpDef def{
      .name = "cond",
      .doc =
          "One of two graphs on the operands, by a truth value: `then` if it holds, else `otherwise`. Both give "
          "results of equal types.",
      .inputs = {{"predicate", kBool}, {"operands", kAny, ArgKind::Variadic}},
      .attrs = {{"then", 1, ir::AttrType::Subgraph, "from the operands to the results"},
                {"otherwise", 2, ir::AttrType::Subgraph, "likewise"}},
      .results = -1,
      .infer = infer_cond,
      .meaning = ControlFlow{ControlKind::Cond},
      .gradient = GradientOfBody{},
      .batching = BatchBody{},
      .samples = cond_samples,
      .invalid_samples = cond_invalid,
  };
  return def;
}

const OpDef& while_op() {
  static const OpDef def{
      .name = "while",
      .doc =
          "While `condition` of the carried values (the first `carried` operands) and the constants (the others) "
          "holds, the carried values become `body` of them. Their types do not change.",
      .inputs = {{"operands", kAny, ArgKind::Variadic}},
      .attrs = {{"condition", 1, ir::AttrType::Subgraph, "from the operands to one truth value"},
                {"body", 2, ir::AttrType::Subgraph, "from the operands to the carried values"},
                {"carried", 3, ir::AttrType::Int, "how many operands are carried"}},
      .results = -1,
      .infer = infer_while,
      .meaning = ControlFlow{ControlKind::While},
      .gradient = NotDifferentiable{"the number of steps is not known beforehand, so what the way back needs has no "
                                    "place; scan has one (outside of capture, while_loop is differentiable)"},
      .batching = BatchBody{},
      .samples = while_samples,
      .invalid_samples = while_invalid,
  };
  return def;
}

const OpDef& scan_op() {
  static const OpDef def{
      .name = "scan",
      .doc =
          "A loop over the rows of the scanned operands: for each step, `body` of the carried values, one row of "
          "each scanned operand and the constants gives the next carried values and rows of results, which are "
          "stacked. Operands: `carried` values, `scanned` stacks of `length` rows, constants.",
      .inputs = {{"operands", kAny, ArgKind::Variadic}},
      .attrs = {{"body", 1, ir::AttrType::Subgraph,
                 "from carried values, rows and constants to carried values and rows"},
                {"carried", 2, ir::AttrType::Int, "how many operands are carried"},
                {"scanned", 3, ir::AttrType::Int, "how many operands are walked along"},
                {"length", 4, ir::AttrType::Int, "the number of steps"},
                {"reverse", 5, ir::AttrType::Flag, "from the last row to the first"}},
      .results = -1,
      .infer = infer_scan,
      .meaning = ControlFlow{ControlKind::Scan},
      .gradient = GradientOfBody{},
      .batching = BatchBody{},
      .samples = scan_samples,
      .invalid_samples = scan_invalid,
  };
  return def;
}

std::vector<const OpDef*> control_ops() { return {&cond_op(), &while_op(), &scan_op()}; }

}  // namespace tenon::ops
