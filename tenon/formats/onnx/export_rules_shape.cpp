// Moves, gather and scatter, order and running results as ONNX operators. To add an op: a row.
#include <algorithm>
#include <limits>
#include <numeric>

#include "tenon/formats/onnx/export_writer.h"
#include "tenon/formats/onnx/value.h"
#include "tenon/ops/infer.h"

namespace tenon::formats::onnx {
namespace {

size_t axis_of(const NodeWriter& w, size_t attribute = 0) {
  return static_cast<size_t>(normalize_axis("export", w.fixed(attribute)[0], w.rank()));
}

void reshape(NodeWriter& w) { w.result(0, w.reshape(w.in(0), w.result_extents())); }
void expand(NodeWriter& w) { w.result(0, w.op("Expand", {w.in(0), w.list(w.result_extents())})); }
void permute(NodeWriter& w) {
  std::vector<int64_t> order = w.fixed(0);
  for (auto& axis : order) axis = normalize_axis("export", axis, w.rank());
  w.result(0, w.transpose(w.in(0), order));
}

std::string slice_of(NodeWriter& w, const std::string& x, const Exprs& starts, const Exprs& sizes,
                     const std::vector<int64_t>& steps) {
  if (steps.empty()) return x;
  Exprs ends;
  std::vector<int64_t> axes(steps.size());
  std::iota(axes.begin(), axes.end(), 0);
  for (size_t i = 0; i < steps.size(); ++i) {
    // Backwards, the end may be before the first element, which only a number below all extents says.
    ends.push_back(steps[i] > 0 ? plus(starts[i], times(sizes[i], steps[i])) : number(0));
    if (steps[i] > 0) continue;
    const bool whole = starts[i].is_constant() && sizes[i].is_constant();
    const int64_t end = whole ? starts[i].constant + sizes[i].constant * steps[i] : -1;
    if (!whole) {
      const ir::SizeExpr last = plus(starts[i], times(sizes[i], steps[i]));
      if (!last.is_constant()) w.unsupported("a backward slice whose end depends on the sizes");
      ends.back() = number(last.constant < 0 ? std::numeric_limits<int64_t>::min() + 1 : last.constant);
    } else {
      ends.back() = number(end < 0 ? std::numeric_limits<int64_t>::min() + 1 : end);
    }
  }
  return w.op("Slice", {x, w.list(starts), w.list(ends), w.list(axes), w.list(steps)});
}
void slice(NodeWriter& w) { w.result(0, slice_of(w, w.in(0), w.numbers(0), w.numbers(1), w.fixed(2))); }

// Element (i, i) of a [rows, columns] matrix is every (columns + 1)-th of its elements.
void diagonal(NodeWriter& w) {
  const Exprs extents = w.extents(), out = w.result_extents();
  const size_t r = extents.size();
  const int64_t offset = w.fixed(0)[0];
  const ir::SizeExpr &rows = extents[r - 2], &columns = extents[r - 1];
  if (!columns.is_constant()) w.unsupported("the diagonal of a matrix whose width depends on the sizes");
  Exprs flat(extents.begin(), extents.end() - 2);
  flat.push_back(times(rows, columns.constant));
  const std::string x = w.reshape(w.in(0), flat);
  const int64_t first = offset >= 0 ? offset : -offset * columns.constant;
  Exprs starts(flat.size() - 1, number(0)), sizes(flat.begin(), flat.end() - 1);
  std::vector<int64_t> steps(flat.size(), 1);
  starts.push_back(number(first));
  sizes.push_back(out.back());
  steps.back() = columns.constant + 1;
  w.result(0, slice_of(w, x, starts, sizes, steps));
}

void concat(NodeWriter& w) {
  if (w.operands() == 1) return w.result(0, w.in(0));
  w.result(0, w.op("Concat", w.ins(), {attribute("axis", static_cast<int64_t>(axis_of(w)))}));
}

std::string pad_of(NodeWriter& w, const std::string& x, const Exprs& low, const Exprs& high, const std::string& value) {
  Exprs all = low;
  all.insert(all.end(), high.begin(), high.end());
  return w.op("Pad", {x, w.list(all), value});
}

// Elements between the elements: each becomes a row of one element and padding, and the rows are joined again.
void pad(NodeWriter& w) {
  const Exprs low = w.numbers(0), high = w.numbers(1);
  const std::vector<int64_t> interior = w.fixed(2);
  const DType dtype = w.type().dtype, through = info(dtype).bits < 8 ? DType::I8 : dtype;
  std::string x = w.cast(w.in(0), dtype, through);
  const std::string value = w.cast(w.in(1), dtype, through);
  Exprs extents = w.extents();
  for (size_t axis = 0; axis < interior.size(); ++axis) {
    const int64_t gap = interior[axis];
    if (gap == 0) continue;
    Exprs rows = extents;
    rows.insert(rows.begin() + static_cast<std::ptrdiff_t>(axis) + 1, number(1));
    Exprs none(rows.size(), number(0)), after = none;
    after[axis + 1] = number(gap);
    x = pad_of(w, w.reshape(x, rows), none, after, value);
    extents[axis] = times(extents[axis], gap + 1);
    x = w.reshape(x, extents);
    Exprs no_low(extents.size(), number(0)), cut = no_low;
    cut[axis] = number(-gap);  // what stands behind the last element
    x = pad_of(w, x, no_low, cut, value);
    extents[axis] = plus(extents[axis], number(-gap));
  }
  w.result(0, w.cast(pad_of(w, x, low, high, value), through, dtype));
}

void full(NodeWriter& w) {
  const DType dtype = w.result_type().dtype;
  w.result(0, w.op("Expand", {w.scalar(w.real(1), dtype), w.list(w.numbers(0))}));
}

void iota(NodeWriter& w) {
  const Exprs shape = w.result_extents();
  const auto axis = static_cast<size_t>(normalize_axis("export", w.fixed(1)[0], static_cast<int64_t>(shape.size())));
  const std::string stop = w.op("Reshape", {w.list({shape[axis]}), w.list(std::vector<int64_t>{})});
  std::string x = w.op("Range", {w.scalar(0, DType::I64), stop, w.scalar(1, DType::I64)});
  x = w.cast(x, DType::I64, w.result_type().dtype);
  if (shape.size() > 1) {
    Exprs row(shape.size(), number(1));
    row[axis] = shape[axis];
    x = w.op("Expand", {w.reshape(x, row), w.list(shape)});
  }
  w.result(0, x);
}

// Every element of every window is taken by its position.
void sliding_window(NodeWriter& w) {
  const auto axis = static_cast<int64_t>(axis_of(w));
  const int64_t size = w.fixed(1)[0], step = w.fixed(2)[0];
  const ir::SizeExpr windows = w.result_extents()[static_cast<size_t>(axis)];
  const auto counted = [&](const ir::SizeExpr& count, const Exprs& shape) {
    const std::string stop = w.op("Reshape", {w.list({count}), w.list(std::vector<int64_t>{})});
    return w.reshape(w.op("Range", {w.scalar(0, DType::I64), stop, w.scalar(1, DType::I64)}), shape);
  };
  const std::string starts =
      w.op("Mul", {counted(windows, {windows, number(1)}), w.scalar(static_cast<double>(step), DType::I64)});
  const std::string positions = w.op("Add", {starts, counted(number(size), {number(1), number(size)})});
  const std::string y = w.op("Gather", {w.in(0), positions}, {attribute("axis", axis)});
  std::vector<int64_t> order;
  for (int64_t k = 0; k <= w.rank(); ++k) {
    if (k != axis + 1) order.push_back(k);
  }
  order.push_back(axis + 1);
  w.result(0, w.transpose(y, order));
}

void take(NodeWriter& w) {
  w.result(0, w.op("Gather", w.ins(), {attribute("axis", static_cast<int64_t>(axis_of(w)))}));
}
void take_along_axis(NodeWriter& w) {
  w.result(0, w.op("GatherElements", w.ins(), {attribute("axis", static_cast<int64_t>(axis_of(w)))}));
}

void scatter(NodeWriter& w) {
  const std::string& mode = w.attrs().text(1);
  const int64_t since = mode == "set" ? 13 : mode == "add" ? 16 : 18;
  if (w.opset() < since) w.unsupported("its mode '" + mode + "' needs opset " + std::to_string(since));
  std::vector<Attribute> attributes{attribute("axis", static_cast<int64_t>(axis_of(w)))};
  if (mode != "set") attributes.push_back(attribute("reduction", mode));
  w.result(0, w.op("ScatterElements", w.ins(), std::move(attributes)));
}
void index_add(NodeWriter& w) {
  const size_t axis = axis_of(w);
  Exprs row(static_cast<size_t>(w.rank(2)), number(1));
  row[axis] = number(-1);
  const std::string along = w.op("Reshape", {w.in(1), w.list(row)});
  const std::string indices = w.op("Expand", {along, w.list(w.extents(2))});
  w.result(0, w.op("ScatterElements", {w.in(0), indices, w.in(2)},
                   {attribute("axis", static_cast<int64_t>(axis)), attribute("reduction", std::string("add"))}));
}

void sort(NodeWriter& w) {
  const size_t axis = axis_of(w);
  const DType dtype = w.type().dtype, through = dtype == DType::Bool || dtype == DType::BF16 ? DType::F32 : dtype;
  const Names out =
      w.op_many("TopK", {w.cast(w.in(0), dtype, through), w.list({w.extents()[axis]})},
                {attribute("axis", static_cast<int64_t>(axis)), attribute("largest", w.attrs().flag(1))}, 2);
  w.result(0, w.cast(out[0], through, dtype));
  w.result(1, w.cast(out[1], DType::I64, w.result_type(1).dtype));
}

void cumsum(NodeWriter& w) {
  const DType dtype = w.type().dtype;
  const bool wide = dtype == DType::F32 || dtype == DType::F64 || dtype == DType::I32 || dtype == DType::I64;
  const DType through = wide ? dtype : is_float(dtype) ? DType::F32 : DType::I64;
  const std::string x = w.cast(w.in(0), dtype, through);
  const std::string axis = w.scalar(static_cast<double>(axis_of(w)), DType::I64);
  const std::string y =
      w.op("CumSum", {x, axis}, {attribute("exclusive", w.attrs().flag(1)), attribute("reverse", w.attrs().flag(2))});
  w.result(0, w.cast(y, through, w.result_type().dtype));
}

// One state that is carried along an axis: `step` makes the next one of it and of the operands' elements. The rows are
// the states after each step, or before it.
void running(NodeWriter& w, size_t axis, bool reverse, bool before, double start,
             const std::function<std::string(const std::string& state, const Names& x)>& step) {
  const DType dtype = w.result_type().dtype;
  Exprs slice = w.result_extents();
  slice.erase(slice.begin() + static_cast<std::ptrdiff_t>(axis));
  const std::string begin = w.op("Expand", {w.scalar(start, dtype), w.list(slice)});
  const Attribute body = w.model().subgraph("body", [&](GraphData& graph) {
    Names names;
    for (size_t i = 0; i <= w.operands(); ++i) {
      names.push_back(w.model().fresh("carried"));
      graph.inputs.push_back(ModelWriter::value_info(names.back(), dtype));
    }
    const std::string next = step(names[0], {names.begin() + 1, names.end()});
    for (const std::string& from : {next, before ? names[0] : next}) {
      const std::string name = w.model().fresh("branch_out");
      w.model().add_named("Identity", {from}, {}, {name});
      ValueInfo info = ModelWriter::value_info(name, dtype);
      info.type.has_shape = true;  // of this rank; runtimes ask for it where they cannot infer it
      info.type.dims.assign(slice.size(), "");
      graph.outputs.push_back(std::move(info));
    }
  });
  const auto count = static_cast<int64_t>(w.operands()), direction = int64_t{reverse ? 1 : 0},
             at = static_cast<int64_t>(axis);
  const auto many = static_cast<size_t>(count);
  Names in{begin};
  for (size_t i = 0; i < w.operands(); ++i) in.push_back(w.cast(w.in(i), w.type(i).dtype, dtype));
  w.result(0, w.op_many("Scan", in,
                        {body, attribute("num_scan_inputs", count),
                         attribute("scan_input_axes", std::vector<int64_t>(many, at)),
                         attribute("scan_input_directions", std::vector<int64_t>(many, direction)),
                         attribute("scan_output_axes", std::vector<int64_t>{at}),
                         attribute("scan_output_directions", std::vector<int64_t>{direction})},
                        2)[1]);
}

void cumprod(NodeWriter& w) {
  running(w, axis_of(w), w.attrs().flag(2), w.attrs().flag(1), 1,
          [&](const std::string& state, const Names& x) { return w.op("Mul", {state, x[0]}); });
}
void linear_recurrence(NodeWriter& w) {
  running(w, axis_of(w), w.attrs().flag(1), false, 0,
          [&](const std::string& state, const Names& x) { return w.op("Add", {w.op("Mul", {x[0], state}), x[1]}); });
}
void logcumsumexp(NodeWriter& w) {
  const DType dtype = w.type().dtype;
  running(w, axis_of(w), false, false, -std::numeric_limits<double>::infinity(),
          [&](const std::string& state, const Names& x) {
            const std::string top = w.op("Max", {state, x[0]});
            const auto share = [&](const std::string& v) { return w.op("Exp", {w.op("Sub", {v, top})}); };
            const std::string sum = w.op("Add", {top, w.op("Log", {w.op("Add", {share(state), share(x[0])})})});
            const std::string nothing = w.op("Equal", {top, w.scalar(-std::numeric_limits<double>::infinity(), dtype)});
            return w.op("Where", {nothing, top, sum});
          });
}

constexpr ExportRule no_form(std::string_view op, std::string_view reason) {
  return {op, "", nullptr, kOldestExportOpset, nullptr, reason};
}
constexpr std::string_view kLinearAlgebra = "ONNX has no operator of linear algebra but Det";

constexpr ExportRule kRules[] = {
    {"reshape", "Reshape", reshape},
    {"expand", "Expand", expand},
    {"permute", "Transpose", permute},
    {"slice", "Slice", slice},
    {"diagonal", "Reshape, Slice", diagonal},
    {"concat", "Concat", concat},
    {"pad", "Pad", pad},
    {"full", "Expand", full},
    {"iota", "Range", iota},
    {"sliding_window", "Gather, Transpose", sliding_window},
    {"take", "Gather", take},
    {"take_along_axis", "GatherElements", take_along_axis},
    {"scatter_along_axis", "ScatterElements", scatter},
    {"index_add", "ScatterElements", index_add, 16},
    {"sort", "TopK", sort},
    {"cumsum", "CumSum", cumsum},
    {"cumprod", "Scan", cumprod},
    {"logcumsumexp", "Scan", logcumsumexp},
    {"linear_recurrence", "Scan", linear_recurrence},
    no_form("cummax", "ONNX has no running maximum with positions"),
    no_form("cummin", "ONNX has no running minimum with positions"),
    no_form("random_bits", "ONNX's random numbers are not a function of a key"),
    no_form("unique", "its result's shape depends on values: it is in no graph"),
    no_form("nonzero", "its result's shape depends on values: it is in no graph"),
    no_form("polygamma", "ONNX has no gamma function"),
    no_form("cholesky", kLinearAlgebra),
    no_form("eigh", kLinearAlgebra),
    no_form("orthogonal_complement", kLinearAlgebra),
    no_form("qr", kLinearAlgebra),
    no_form("slogdet", kLinearAlgebra),
    no_form("solve", kLinearAlgebra),
    no_form("svd", kLinearAlgebra),
    no_form("triangular_solve", kLinearAlgebra),
};

}  // namespace

std::span<const ExportRule> shape_export_rules() { return kRules; }

}  // namespace tenon::formats::onnx
