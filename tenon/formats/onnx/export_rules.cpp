// Elementwise ops, reductions and control flow as ONNX operators.
//
// To add an op: a row. A plain one names the operator, whose operands and attributes are the op's in the same order;
// dtypes that the operator does not take go through one that it does.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "tenon/formats/onnx/export_writer.h"
#include "tenon/formats/onnx/value.h"
#include "tenon/ops/control.h"
#include "tenon/ops/infer.h"

namespace tenon::formats::onnx {
namespace {

using ops::DTypeSet;

constexpr DTypeSet kReal{DType::F16, DType::F32, DType::F64};
constexpr DTypeSet kBrain = kReal | DTypeSet{DType::BF16};
constexpr DTypeSet kWide = kBrain | DTypeSet{DType::I32, DType::I64, DType::U32, DType::U64};
constexpr DTypeSet kSigned = kBrain | DTypeSet{DType::I8, DType::I16, DType::I32, DType::I64};
constexpr DTypeSet kNumber = ops::kNumbers;
constexpr DTypeSet kUnsigned{DType::U8, DType::U16, DType::U32, DType::U64};

// An operator that does the same with the same operands.
struct Plain {
  std::string_view op, onnx;
  DTypeSet dtypes;                               // that the operator takes
  std::array<std::string_view, 2> attributes{};  // what the op's attributes are called there
};

// The dtype to compute in for one that the operator does not take.
DType stand_in(DTypeSet set, DType dtype) {
  if (set.has(dtype)) return dtype;
  if (is_float(dtype)) return DType::F32;
  for (const DType wide : {DType::I64, DType::I32, DType::F32}) {
    if (set.has(wide)) return wide;
  }
  return dtype;
}

std::vector<Attribute> named_attributes(const NodeWriter& w, std::span<const std::string_view> names) {
  std::vector<Attribute> list;
  for (size_t i = 0; i < names.size() && i < w.attrs().size(); ++i) {
    if (names[i].empty()) continue;
    const std::string name(names[i]);
    const auto& value = w.attrs()[i];
    if (std::holds_alternative<double>(value)) {
      list.push_back(attribute(name, w.real(i)));
    } else if (std::holds_alternative<bool>(value)) {
      list.push_back(attribute(name, w.attrs().flag(i)));
    } else {
      list.push_back(attribute(name, w.fixed(i)[0]));
    }
  }
  return list;
}

void write_plain(NodeWriter& w, const Plain& plain) {
  const DType dtype = w.type().dtype, through = stand_in(plain.dtypes, dtype), out = w.result_type().dtype;
  Names in;
  for (size_t i = 0; i < w.operands(); ++i) in.push_back(w.cast(w.in(i), w.type(i).dtype, through));
  const std::string y = w.op(plain.onnx, in, named_attributes(w, plain.attributes));
  w.result(0, out == DType::Bool && dtype != DType::Bool ? y : w.cast(y, through, out));
}

// One function for each row of a table: rules are plain function pointers.
constexpr std::array kPlain{
    Plain{"abs", "Abs", kNumber},
    Plain{"acos", "Acos", kReal},
    Plain{"acosh", "Acosh", kReal},
    Plain{"asin", "Asin", kReal},
    Plain{"asinh", "Asinh", kReal},
    Plain{"atan", "Atan", kReal},
    Plain{"atanh", "Atanh", kReal},
    Plain{"celu", "Celu", {DType::F32}, {"alpha"}},
    Plain{"cos", "Cos", kReal},
    Plain{"cosh", "Cosh", kReal},
    Plain{"divide", "Div", kWide},
    Plain{"elu", "Elu", kReal, {"alpha"}},
    Plain{"equal", "Equal", ops::kCompute},
    Plain{"erf", "Erf", kBrain},
    Plain{"exp", "Exp", kBrain},
    Plain{"greater", "Greater", kNumber},
    Plain{"isnan", "IsNaN", kBrain},
    Plain{"leaky_relu", "LeakyRelu", kReal, {"alpha"}},
    Plain{"less", "Less", kNumber},
    Plain{"log", "Log", kBrain},
    Plain{"maximum", "Max", kNumber},
    Plain{"minimum", "Min", kNumber},
    Plain{"negative", "Neg", kSigned},
    Plain{"power", "Pow", kBrain | DTypeSet{DType::I32, DType::I64}},
    Plain{"reciprocal", "Reciprocal", kBrain},
    Plain{"sigmoid", "Sigmoid", kBrain},
    Plain{"sign", "Sign", kNumber},
    Plain{"sin", "Sin", kReal},
    Plain{"sinh", "Sinh", kReal},
    Plain{"softsign", "Softsign", kReal},
    Plain{"sqrt", "Sqrt", kBrain},
    Plain{"subtract", "Sub", kWide},
    Plain{"tan", "Tan", kReal},
    Plain{"tanh", "Tanh", kBrain},
};

const Plain* plain_of(std::string_view op) {
  const auto found = std::find_if(kPlain.begin(), kPlain.end(), [&](const Plain& p) { return p.op == op; });
  return found == kPlain.end() ? nullptr : &*found;
}
void plain(NodeWriter& w) { write_plain(w, *plain_of(w.node().op->name)); }

// ---- elementwise, in other words -----------------------------------------------------------
// The operands as bools.
Names truths(NodeWriter& w) {
  Names names;
  for (size_t i = 0; i < w.operands(); ++i) names.push_back(w.cast(w.in(i), w.type(i).dtype, DType::Bool));
  return names;
}

void add(NodeWriter& w) {
  if (w.type().dtype == DType::Bool) return w.result(0, w.op("Or", w.ins()));
  write_plain(w, {"", "Add", kWide});
}
void multiply(NodeWriter& w) {
  if (w.type().dtype == DType::Bool) return w.result(0, w.op("And", w.ins()));
  write_plain(w, {"", "Mul", kWide});
}
void logical_and(NodeWriter& w) { w.result(0, w.op("And", truths(w))); }
void logical_or(NodeWriter& w) { w.result(0, w.op("Or", truths(w))); }
void logical_xor(NodeWriter& w) { w.result(0, w.op("Xor", truths(w))); }
void logical_not(NodeWriter& w) { w.result(0, w.op("Not", truths(w))); }
void not_equal(NodeWriter& w) { w.result(0, w.op("Not", {w.op("Equal", w.ins())})); }

// Comparisons that came later take bfloat16 only from opset 16; the negation of the opposite fails on NaN.
void less_equal(NodeWriter& w) { write_plain(w, {"", "LessOrEqual", w.opset() >= 16 ? kNumber : kReal | ops::kInts}); }
void greater_equal(NodeWriter& w) {
  write_plain(w, {"", "GreaterOrEqual", w.opset() >= 16 ? kNumber : kReal | ops::kInts});
}

void bitwise(NodeWriter& w, std::string_view of_bool, std::string_view of_integer) {
  if (w.type().dtype == DType::Bool) return w.result(0, w.op(of_bool, w.ins()));
  if (w.opset() < 18) w.unsupported("its form on integers needs opset 18");
  w.result(0, w.op(of_integer, w.ins()));
}
void bitwise_and(NodeWriter& w) { bitwise(w, "And", "BitwiseAnd"); }
void bitwise_or(NodeWriter& w) { bitwise(w, "Or", "BitwiseOr"); }
void bitwise_xor(NodeWriter& w) { bitwise(w, "Xor", "BitwiseXor"); }
void bitwise_not(NodeWriter& w) { bitwise(w, "Not", "BitwiseNot"); }

void shift(NodeWriter& w, const char* direction) {
  const DType dtype = w.type().dtype;
  if (!kUnsigned.has(dtype)) w.unsupported("ONNX shifts unsigned integers only");
  w.result(0, w.op("BitShift", w.ins(), {attribute("direction", std::string(direction))}));
}
void left_shift(NodeWriter& w) { shift(w, "LEFT"); }
void right_shift(NodeWriter& w) { shift(w, "RIGHT"); }

void write_cast(NodeWriter& w) {
  // There is no cast of bool to and from the narrow types.
  w.result(0, w.cast(w.in(0), w.type().dtype, w.result_type().dtype));
}
void choose(NodeWriter& w) { w.result(0, w.op("Where", w.ins())); }

// Whole numbers are round already.
void rounding(NodeWriter& w, std::string_view type) {
  if (!is_float(w.type().dtype)) return w.result(0, w.in(0));
  write_plain(w, {"", type, kReal});
}
void floor(NodeWriter& w) { rounding(w, "Floor"); }
void ceil(NodeWriter& w) { rounding(w, "Ceil"); }
void round(NodeWriter& w) { rounding(w, "Round"); }
void trunc(NodeWriter& w) {
  if (!is_float(w.type().dtype)) return w.result(0, w.in(0));
  const DType dtype = w.type().dtype, through = stand_in(kReal, dtype);
  const std::string x = w.cast(w.in(0), dtype, through);
  const std::string y = w.op("Mul", {w.op("Sign", {x}), w.op("Floor", {w.op("Abs", {x})})});
  w.result(0, w.cast(y, through, dtype));
}

void relu(NodeWriter& w) {
  const bool integers = w.opset() >= 14;
  write_plain(w, {"", "Relu", integers ? kSigned : kBrain});
}
void square(NodeWriter& w) {
  const DType dtype = w.type().dtype, through = stand_in(kWide, dtype);
  const std::string x = w.cast(w.in(0), dtype, through);
  w.result(0, w.cast(w.op("Mul", {x, x}), through, dtype));
}
void rsqrt(NodeWriter& w) { w.result(0, w.op("Reciprocal", {w.op("Sqrt", {w.in(0)})})); }
void silu(NodeWriter& w) { w.result(0, w.op("Mul", {w.in(0), w.op("Sigmoid", {w.in(0)})})); }

// In f32 at least, so that the constants are good to its last bits.
struct InReal {
  NodeWriter& w;
  DType dtype = w.type().dtype;
  DType through = dtype == DType::F64 ? DType::F64 : DType::F32;
  [[nodiscard]] std::string operand(size_t i = 0) const { return w.cast(w.in(i), dtype, through); }
  [[nodiscard]] std::string constant(double value) const { return w.scalar(value, through); }
  void result(const std::string& y) const { w.result(0, w.cast(y, through, dtype)); }
};

void exp2(NodeWriter& w) {
  const InReal r{w};
  r.result(w.op("Pow", {r.constant(2), r.operand()}));
}
// 2 exp(x/2) sinh(x/2): no difference of nearly equal numbers.
void expm1(NodeWriter& w) {
  const InReal r{w};
  const std::string half = w.op("Mul", {r.operand(), r.constant(0.5)});
  const std::string product = w.op("Mul", {w.op("Exp", {half}), w.op("Sinh", {half})});
  r.result(w.op("Mul", {product, r.constant(2)}));
}
// 2 artanh(x / (2 + x)), for the same reason.
void log1p(NodeWriter& w) {
  const InReal r{w};
  const std::string x = r.operand(), ratio = w.op("Div", {x, w.op("Add", {x, r.constant(2)})});
  const std::string near = w.op("Mul", {w.op("Atanh", {ratio}), r.constant(2)});
  const std::string far = w.op("Log", {w.op("Add", {x, r.constant(1)})});
  const std::string small = w.op("Less", {w.op("Abs", {x}), r.constant(0.5)});
  r.result(w.op("Where", {small, near, far}));
}
void scaled_log(NodeWriter& w, double scale) {
  const InReal r{w};
  r.result(w.op("Mul", {w.op("Log", {r.operand()}), r.constant(scale)}));
}
void log2(NodeWriter& w) { scaled_log(w, 1 / std::log(2.0)); }
void log10(NodeWriter& w) { scaled_log(w, 1 / std::log(10.0)); }
void cbrt(NodeWriter& w) {
  const InReal r{w};
  const std::string x = r.operand();
  r.result(w.op("Mul", {w.op("Sign", {x}), w.op("Pow", {w.op("Abs", {x}), r.constant(1.0 / 3)})}));
}
void erfc(NodeWriter& w) {
  const InReal r{w};
  r.result(w.op("Sub", {r.constant(1), w.op("Erf", {r.operand()})}));
}

std::string negative_sign(NodeWriter& w, const std::string& x, const InReal& r) {
  const std::string zero = r.constant(0), inverse = w.op("Reciprocal", {x});
  return w.op("Or", {w.op("Less", {x, zero}), w.op("Less", {inverse, zero})});  // 1 / -0 is -infinity
}
void signbit(NodeWriter& w) {
  const InReal r{w};
  w.result(0, negative_sign(w, r.operand(), r));
}
void copysign(NodeWriter& w) {
  const InReal r{w};
  const std::string size = w.op("Abs", {r.operand(0)});
  r.result(w.op("Where", {negative_sign(w, r.operand(1), r), w.op("Neg", {size}), size}));
}
void isinf(NodeWriter& w) {
  const InReal r{w};
  w.result(0, w.op("IsInf", {r.operand()}));
}
void isfinite(NodeWriter& w) {
  const InReal r{w};
  const std::string x = r.operand();
  w.result(0, w.op("Not", {w.op("Or", {w.op("IsInf", {x}), w.op("IsNaN", {x})})}));
}
// The angle by its tangent, and the half plane.
void atan2(NodeWriter& w) {
  const InReal r{w};
  const std::string y = r.operand(0), x = r.operand(1), zero = r.constant(0);
  const std::string angle = w.op("Atan", {w.op("Div", {y, x})});
  const std::string left = w.op("Where", {negative_sign(w, y, r), w.op("Sub", {angle, r.constant(M_PI)}),
                                          w.op("Add", {angle, r.constant(M_PI)})});
  const std::string upright = w.op("Mul", {w.op("Sign", {y}), r.constant(M_PI / 2)});
  const std::string other = w.op("Where", {w.op("Less", {x, zero}), left, angle});
  r.result(w.op("Where", {w.op("Equal", {x, zero}), upright, other}));
}

void floor_divide(NodeWriter& w) {
  const DType dtype = w.type().dtype;
  if (is_float(dtype)) {
    const InReal r{w};
    return r.result(w.op("Floor", {w.op("Div", {r.operand(0), r.operand(1)})}));
  }
  // The remainder has the divisor's sign, so that what is left divides without rest.
  const DType through = stand_in(kWide, dtype);
  const std::string a = w.cast(w.in(0), dtype, through), b = w.cast(w.in(1), dtype, through);
  const std::string rest = w.op("Mod", {a, b});
  w.result(0, w.cast(w.op("Div", {w.op("Sub", {a, rest}), b}), through, dtype));
}
void remainder(NodeWriter& w) {
  if (!is_float(w.type().dtype)) return w.result(0, w.op("Mod", w.ins()));
  const InReal r{w};
  const std::string a = r.operand(0), b = r.operand(1);
  r.result(w.op("Sub", {a, w.op("Mul", {b, w.op("Floor", {w.op("Div", {a, b})})})}));
}
void fmod(NodeWriter& w) { w.result(0, w.op("Mod", w.ins(), {attribute("fmod", 1)})); }
void clamp(NodeWriter& w) {
  const DType dtype = w.type().dtype, through = stand_in(kNumber, dtype);
  const std::string low = w.op("Max", {w.cast(w.in(0), dtype, through), w.cast(w.in(1), dtype, through)});
  w.result(0, w.cast(w.op("Min", {low, w.cast(w.in(2), dtype, through)}), through, dtype));
}

void gelu(NodeWriter& w) {
  const std::string form = w.attrs().flag(0) ? "tanh" : "none";
  w.result(0, w.op("Gelu", {w.in(0)}, {attribute("approximate", form)}));
}
void prelu(NodeWriter& w) { w.result(0, w.op("PRelu", w.ins())); }
bool slope_broadcasts(const NodeFacts& f) { return f.in[0].shape == f.out[0].shape; }
void softplus(NodeWriter& w) { w.result(0, w.op("Softplus", {w.in(0)})); }
bool of_slope_one(const NodeFacts& f) { return f.node.attrs.real(0) == 1; }
void mish(NodeWriter& w) { w.result(0, w.op("Mish", {w.in(0)})); }
void hard_swish(NodeWriter& w) { w.result(0, w.op("HardSwish", {w.in(0)})); }
void hard_sigmoid(NodeWriter& w) {
  w.result(0, w.op("HardSigmoid", {w.in(0)}, {attribute("alpha", 1.0 / 6), attribute("beta", 0.5)}));
}
void selu(NodeWriter& w) {
  w.result(0, w.op("Selu", {w.in(0)},
                   {attribute("alpha", 1.67326324235437728481704), attribute("gamma", 1.05070098735548049342)}));
}

// ---- reductions ----------------------------------------------------------------------------
std::vector<int64_t> axes_of(const NodeWriter& w) {
  const Ints axes = ops::reduction_axes("export", w.attrs().ints(0), w.rank());
  return {axes.begin(), axes.end()};
}

void reduce(NodeWriter& w, std::string_view type, DType through) {
  const std::string x = w.cast(w.in(0), w.type().dtype, through);
  w.result(0, w.cast(w.reduce(type, x, axes_of(w), w.attrs().flag(1)), through, w.result_type().dtype));
}
void sum(NodeWriter& w) { reduce(w, "ReduceSum", w.result_type().dtype); }
void prod(NodeWriter& w) { reduce(w, "ReduceProd", w.result_type().dtype); }
// Bools and narrow integers as i32.
DType orderable(DType dtype) {
  const bool narrow = dtype == DType::Bool || dtype == DType::I16 || dtype == DType::U16;
  return narrow ? DType::I32 : dtype;
}
void max(NodeWriter& w) { reduce(w, "ReduceMax", orderable(w.type().dtype)); }
void min(NodeWriter& w) { reduce(w, "ReduceMin", orderable(w.type().dtype)); }
void truth(NodeWriter& w, std::string_view type) {
  const std::string yes = w.cast(w.in(0), w.type().dtype, DType::Bool);
  const std::string y = w.reduce(type, w.cast(yes, DType::Bool, DType::I32), axes_of(w), w.attrs().flag(1));
  w.result(0, w.cast(y, DType::I32, DType::Bool));
}
void any(NodeWriter& w) { truth(w, "ReduceMax"); }
void all(NodeWriter& w) { truth(w, "ReduceMin"); }

// Along one axis; several are brought together at the end first.
void arg(NodeWriter& w, std::string_view type) {
  const std::vector<int64_t> axes = axes_of(w);
  const DType dtype = w.type().dtype, through = dtype == DType::Bool ? DType::I32 : dtype;
  std::string x = w.cast(w.in(0), dtype, through);
  std::vector<int64_t> order;
  Exprs kept;
  const Exprs extents = w.extents();
  for (int64_t k = 0; k < w.rank(); ++k) {
    if (std::find(axes.begin(), axes.end(), k) != axes.end()) continue;
    order.push_back(k);
    kept.push_back(extents[static_cast<size_t>(k)]);
  }
  if (axes.size() != 1) {
    order.insert(order.end(), axes.begin(), axes.end());
    Exprs flat = kept;
    flat.push_back(number(-1));
    x = w.op("Reshape", {w.transpose(x, order), w.list(flat)});
  }
  const int64_t axis = axes.size() == 1 ? axes[0] : static_cast<int64_t>(kept.size());
  const std::string y = w.op(type, {x}, {attribute("axis", axis), attribute("keepdims", 0)});
  w.result(0, w.cast(w.attrs().flag(1) ? w.reshape(y, w.result_extents()) : y, DType::I64, w.result_type().dtype));
}
void argmax(NodeWriter& w) { arg(w, "ArgMax"); }
void argmin(NodeWriter& w) { arg(w, "ArgMin"); }

void mean(NodeWriter& w) { reduce(w, "ReduceMean", w.type().dtype); }
void logsumexp(NodeWriter& w) { reduce(w, "ReduceLogSumExp", w.type().dtype); }
void norm(NodeWriter& w) { reduce(w, w.real(2) == 2 ? "ReduceL2" : "ReduceL1", w.type().dtype); }
bool of_one_or_two(const NodeFacts& f) { return f.node.attrs.real(2) == 2 || f.node.attrs.real(2) == 1; }

// ---- control flow --------------------------------------------------------------------------
// Results of a graph in an attribute: made there, under names of their own.
void add_outputs(NodeWriter& w, GraphData& graph, const Names& names, const ir::Graph& of, size_t first = 0) {
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string name = w.model().fresh("branch_out");
    w.model().add_named("Identity", {names[i]}, {}, {name});
    const TensorType& type = of.type(of.outputs[first + i]);
    ValueInfo info = ModelWriter::value_info(name, type.dtype);
    info.type.has_shape = true;  // of this rank; runtimes ask for it where they cannot infer it
    info.type.dims.assign(type.shape.size(), "");
    graph.outputs.push_back(std::move(info));
  }
}

void cond(NodeWriter& w) {
  Names operands = w.ins();
  operands.erase(operands.begin());
  const auto branch = [&](const char* name, const ir::Graph& body) {
    return w.model().subgraph(
        name, [&](GraphData& graph) { add_outputs(w, graph, w.model().inlined(body, operands), body); });
  };
  std::vector<Attribute> attributes{branch("then_branch", *w.attrs().graph(0)),
                                    branch("else_branch", *w.attrs().graph(1))};
  const Names out = w.op_many("If", {w.in(0)}, std::move(attributes), w.node().outputs.size());
  for (size_t i = 0; i < out.size(); ++i) w.result(i, out[i]);
}

// Inputs of a loop's body, of these types.
Names add_inputs(NodeWriter& w, GraphData& graph, const ir::Graph& body, size_t first, size_t count) {
  Names names;
  for (size_t i = first; i < first + count; ++i) {
    names.push_back(w.model().fresh("carried"));
    graph.inputs.push_back(ModelWriter::value_info(names.back(), body.type(body.inputs[i]).dtype));
  }
  return names;
}

void while_loop(NodeWriter& w) {
  const ops::WhileAttrs loop(w.attrs());
  const Names operands = w.ins();
  const Names constants(operands.begin() + static_cast<std::ptrdiff_t>(loop.carried), operands.end());
  const std::string begin = w.model().inlined(loop.condition, operands)[0];
  const Attribute body = w.model().subgraph("body", [&](GraphData& graph) {
    const std::string step = w.model().fresh("step"), go = w.model().fresh("go");
    graph.inputs.push_back(ModelWriter::value_info(step, DType::I64));
    graph.inputs.push_back(ModelWriter::value_info(go, DType::Bool));
    for (ValueInfo& scalar : graph.inputs) scalar.type.has_shape = true;  // of no axes; runtimes insist on it
    Names in = add_inputs(w, graph, loop.body, 0, loop.carried);
    in.insert(in.end(), constants.begin(), constants.end());
    Names next = w.model().inlined(loop.body, in);
    Names all = next;
    all.insert(all.end(), constants.begin(), constants.end());
    add_outputs(w, graph, w.model().inlined(loop.condition, all), loop.condition);
    add_outputs(w, graph, next, loop.body);
  });
  Names in{"", begin};
  in.insert(in.end(), operands.begin(), operands.begin() + static_cast<std::ptrdiff_t>(loop.carried));
  const Names out = w.op_many("Loop", in, {body}, loop.carried);
  for (size_t i = 0; i < out.size(); ++i) w.result(i, out[i]);
}

void scan(NodeWriter& w) {
  const ops::ScanAttrs loop(w.attrs());
  if (loop.scanned == 0) w.unsupported("ONNX's Scan walks along at least one tensor");
  const Names operands = w.ins();
  const auto moving = static_cast<std::ptrdiff_t>(loop.carried + loop.scanned);
  const Names constants(operands.begin() + moving, operands.end());
  const Attribute body = w.model().subgraph("body", [&](GraphData& graph) {
    Names in = add_inputs(w, graph, loop.body, 0, loop.carried + loop.scanned);
    in.insert(in.end(), constants.begin(), constants.end());
    add_outputs(w, graph, w.model().inlined(loop.body, in), loop.body);
  });
  const size_t rows = loop.body.outputs.size() - loop.carried;
  std::vector<Attribute> attributes{body, attribute("num_scan_inputs", static_cast<int64_t>(loop.scanned))};
  if (loop.reverse) {
    attributes.push_back(attribute("scan_input_directions", std::vector<int64_t>(loop.scanned, 1)));
    if (rows > 0) attributes.push_back(attribute("scan_output_directions", std::vector<int64_t>(rows, 1)));
  }
  const Names in(operands.begin(), operands.begin() + moving);
  const Names out = w.op_many("Scan", in, std::move(attributes), loop.body.outputs.size());
  for (size_t i = 0; i < out.size(); ++i) w.result(i, out[i]);
}

const std::vector<ExportRule>& rules() {
  static const std::vector<ExportRule> list = [] {
    std::vector<ExportRule> rows;
    for (const Plain& p : kPlain) rows.push_back({p.op, p.onnx, plain});
    const std::vector<ExportRule> others{
        {"add", "Add", add},
        {"multiply", "Mul", multiply},
        {"logical_and", "And", logical_and},
        {"logical_or", "Or", logical_or},
        {"logical_xor", "Xor", logical_xor},
        {"logical_not", "Not", logical_not},
        {"not_equal", "Equal, Not", not_equal},
        {"less_equal", "LessOrEqual", less_equal},
        {"greater_equal", "GreaterOrEqual", greater_equal},
        {"bitwise_and", "And, BitwiseAnd", bitwise_and},
        {"bitwise_or", "Or, BitwiseOr", bitwise_or},
        {"bitwise_xor", "Xor, BitwiseXor", bitwise_xor},
        {"bitwise_not", "Not, BitwiseNot", bitwise_not},
        {"left_shift", "BitShift", left_shift},
        {"right_shift", "BitShift", right_shift},
        {"cast", "Cast", write_cast},
        {"where", "Where", choose},
        {"floor", "Floor", floor},
        {"ceil", "Ceil", ceil},
        {"round", "Round", round},
        {"trunc", "Sign, Abs, Floor", trunc},
        {"relu", "Relu", relu},
        {"square", "Mul", square},
        {"rsqrt", "Sqrt, Reciprocal", rsqrt},
        {"silu", "Sigmoid, Mul", silu},
        {"exp2", "Pow", exp2},
        {"expm1", "Exp, Sinh, Mul", expm1},
        {"log1p", "Atanh, Log, Where", log1p},
        {"log2", "Log", log2},
        {"log10", "Log", log10},
        {"cbrt", "Pow", cbrt},
        {"erfc", "Erf", erfc},
        {"signbit", "Less", signbit},
        {"copysign", "Less, Where", copysign},
        {"isinf", "IsInf", isinf},
        {"isfinite", "IsInf, IsNaN", isfinite},
        {"atan2", "Atan, Where", atan2},
        {"floor_divide", "Div, Mod", floor_divide},
        {"remainder", "Mod", remainder},
        {"fmod", "Mod", fmod},
        {"clamp", "Max, Min", clamp},
        {"gelu", "Gelu", gelu, 20},
        {"prelu", "PRelu", prelu, 13, slope_broadcasts},
        {"softplus", "Softplus", softplus, 13, of_slope_one},
        {"mish", "Mish", mish, 18},
        {"hard_swish", "HardSwish", hard_swish, 14},
        {"hard_sigmoid", "HardSigmoid", hard_sigmoid},
        {"selu", "Selu", selu},
        {"sum", "ReduceSum", sum},
        {"prod", "ReduceProd", prod},
        {"max", "ReduceMax", max},
        {"min", "ReduceMin", min},
        {"any", "ReduceMax", any},
        {"all", "ReduceMin", all},
        {"argmax", "ArgMax", argmax},
        {"argmin", "ArgMin", argmin},
        {"mean", "ReduceMean", mean},
        {"logsumexp", "ReduceLogSumExp", logsumexp},
        {"norm", "ReduceL2, ReduceL1", norm, 13, of_one_or_two},
        {"cond", "If", cond},
        {"while", "Loop", while_loop},
        {"scan", "Scan", scan},
        {"erfinv", "", nullptr, 13, nullptr, "ONNX has no inverse of the error function"},
        {"lgamma", "", nullptr, 13, nullptr, "ONNX has no gamma function"},
        {"digamma", "", nullptr, 13, nullptr, "ONNX has no gamma function"},
        {"nextafter", "", nullptr, 13, nullptr, "ONNX cannot look at the bits of a number"},
        {"bit_count", "", nullptr, 13, nullptr, "ONNX does not count bits"},
    };
    rows.insert(rows.end(), others.begin(), others.end());
    return rows;
  }();
  return list;
}

}  // namespace

std::span<const ExportRule> elementwise_export_rules() { return rules(); }

const ExportRule* find_export_rule(std::string_view op) {
  static const auto table = [] {
    std::unordered_map<std::string_view, const ExportRule*> map;
    for (const auto& family : {elementwise_export_rules(), shape_export_rules(), network_export_rules()}) {
      for (const ExportRule& rule : family) map.emplace(rule.op, &rule);
    }
    return map;
  }();
  const auto found = table.find(op);
  return found == table.end() ? nullptr : found->second;
}

}  // namespace tenon::formats::onnx
