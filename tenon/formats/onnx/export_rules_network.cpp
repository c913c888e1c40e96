// Matrix products, convolution, pooling, softmax and normalisation as ONNX operators. To add an op: a row.
#include <algorithm>
#include <numeric>

#include "tenon/formats/onnx/export_writer.h"
#include "tenon/formats/onnx/value.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/table.h"

namespace tenon::formats::onnx {
namespace {

void matmul(NodeWriter& w) {
  constexpr ops::DTypeSet kTaken{DType::F16, DType::BF16, DType::F32, DType::F64,
                                 DType::I32, DType::I64,  DType::U32, DType::U64};
  const DType dtype = w.type().dtype, through = kTaken.has(dtype) ? dtype : DType::I32;
  const std::string y = w.op("MatMul", {w.cast(w.in(0), dtype, through), w.cast(w.in(1), dtype, through)});
  w.result(0, w.cast(y, through, w.result_type().dtype));
}

void matmul_integer(NodeWriter& w) { w.result(0, w.op("MatMulInteger", w.ins())); }

void einsum(NodeWriter& w) { w.result(0, w.op("Einsum", w.ins(), {attribute("equation", w.attrs().text(0))})); }

// bfloat16 goes through f32: ONNX's windows do not take it before opset 22.
struct Windowed {
  NodeWriter& w;
  DType dtype = w.type().dtype;
  DType through = dtype == DType::BF16 ? DType::F32 : dtype;
  [[nodiscard]] std::string operand(size_t i) const { return w.has(i) ? w.cast(w.in(i), dtype, through) : ""; }
  void result(const std::string& y) const { w.result(0, w.cast(y, through, dtype)); }
};

std::vector<int64_t> joined(std::vector<int64_t> a, const std::vector<int64_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

bool any_negative(const std::vector<int64_t>& list) {
  return std::any_of(list.begin(), list.end(), [](int64_t v) { return v < 0; });
}

// Padding below zero cuts: ONNX's convolution cannot, its Pad can.
std::string cut(NodeWriter& w, const std::string& x, std::vector<int64_t>& low, std::vector<int64_t>& high) {
  if (!any_negative(low) && !any_negative(high)) return x;
  std::vector<int64_t> pads{0, 0};
  pads.insert(pads.end(), low.begin(), low.end());
  pads.insert(pads.end(), {0, 0});
  pads.insert(pads.end(), high.begin(), high.end());
  std::fill(low.begin(), low.end(), 0);
  std::fill(high.begin(), high.end(), 0);
  return w.op("Pad", {x, w.list(pads)});
}

void conv(NodeWriter& w) {
  const Windowed v{w};
  std::vector<int64_t> low = w.fixed(1), high = w.fixed(2);
  const std::string x = cut(w, v.operand(0), low, high);
  v.result(w.op("Conv", {x, v.operand(1), v.operand(2)},
                {attribute("strides", w.fixed(0)), attribute("pads", joined(low, high)),
                 attribute("dilations", w.fixed(3)), attribute("group", w.fixed(4)[0])}));
}

// What cuts goes first, alone: the padding that follows is no number, it adds nothing.
void convolution_integer(NodeWriter& w) {
  const auto part = [&](size_t attr, bool cuts) {
    std::vector<int64_t> list = w.fixed(attr);
    for (int64_t& v : list) v = cuts ? std::min<int64_t>(v, 0) : std::max<int64_t>(v, 0);
    return list;
  };
  std::vector<int64_t> low = part(1, true), high = part(2, true);
  const std::string x = cut(w, w.in(0), low, high);
  const auto sums = [&](const std::string& weight, const std::string& zero) {
    return w.op("ConvInteger", {x, weight, w.in(2), zero},
                {attribute("strides", w.fixed(0)), attribute("pads", joined(part(1, false), part(2, false))),
                 attribute("dilations", w.fixed(3)), attribute("group", w.fixed(4)[0])});
  };
  if (!w.has(3) || w.rank(3) == 0) return w.result(0, sums(w.in(1), w.in(3)));
  // A zero point for each filter, which ONNX Runtime does not take: times the sums of what the windows see.
  const TensorType& weight = w.type(1);
  const std::string ones = w.op(
      "Expand", {w.scalar(1, weight.dtype), w.list(std::vector<int64_t>(weight.shape.begin(), weight.shape.end()))});
  std::vector<int64_t> column(weight.shape.size() - 1, 1);
  column[0] = weight.shape[0];
  const std::string zeros = w.op("Reshape", {w.cast(w.in(3), weight.dtype, DType::I32), w.list(column)});
  w.result(0, w.op("Sub", {sums(w.in(1), ""), w.op("Mul", {zeros, sums(ones, "")})}));
}

// The transpose of a convolution: ConvTranspose makes extents that its attributes say, which must be the given ones.
void conv_input_gradient(NodeWriter& w) {
  const Windowed v{w};
  const std::vector<int64_t> strides = w.fixed(0), low = w.fixed(1), high = w.fixed(2), dilations = w.fixed(3);
  if (any_negative(low) || any_negative(high)) w.unsupported("a transposed convolution with negative padding");
  const Exprs in = w.extents(0), out = w.numbers(5);
  std::vector<int64_t> more;
  for (size_t k = 0; k < strides.size(); ++k) {
    const int64_t window = dilations[k] * (w.type(1).shape[k + 2] - 1) + 1;
    // extent = (in - 1) * stride + window - padding + more
    const ir::SizeExpr made = plus(times(in[k + 2], strides[k]), number(window - strides[k] - low[k] - high[k]));
    const ir::SizeExpr rest = plus(out[k], times(made, -1));
    if (!rest.is_constant() || rest.constant < 0 || rest.constant >= strides[k] + (strides[k] == 1 ? 1 : 0))
      w.unsupported("a transposed convolution whose result ONNX's has not");
    more.push_back(rest.constant);
  }
  v.result(w.op("ConvTranspose", {v.operand(0), v.operand(1)},
                {attribute("strides", strides), attribute("pads", joined(low, high)), attribute("dilations", dilations),
                 attribute("group", w.fixed(4)[0]), attribute("output_padding", more)}));
}

// The weight's gradient is a convolution of x with ct in which examples and channels change places.
void conv_weight_gradient(NodeWriter& w) {
  if (w.fixed(4)[0] != 1) w.unsupported("the weight's gradient of a convolution in groups");
  const Windowed v{w};
  std::vector<int64_t> low = w.fixed(1), high = w.fixed(2);
  std::vector<int64_t> order(static_cast<size_t>(w.rank()));
  std::iota(order.begin(), order.end(), 0);
  std::swap(order[0], order[1]);
  const std::string x = w.transpose(cut(w, v.operand(0), low, high), order), ct = w.transpose(v.operand(1), order);
  std::string y = w.op(
      "Conv", {x, ct},
      {attribute("strides", w.fixed(3)), attribute("pads", joined(low, high)), attribute("dilations", w.fixed(0))});
  const std::vector<int64_t> window = w.fixed(5);
  std::vector<int64_t> axes(window.size());
  std::iota(axes.begin(), axes.end(), 2);
  y = w.op("Slice", {y, w.list(std::vector<int64_t>(window.size(), 0)), w.list(window), w.list(axes)});
  v.result(w.transpose(y, order));
}

void max_pool(NodeWriter& w) {
  const std::vector<int64_t> window = w.fixed(0);
  std::vector<Attribute> attributes{attribute("kernel_shape", window), attribute("strides", w.fixed(1)),
                                    attribute("pads", joined(w.fixed(2), w.fixed(3))),
                                    attribute("dilations", w.fixed(4)), attribute("ceil_mode", w.attrs().flag(5))};
  const DType dtype = w.type().dtype;
  const bool taken =
      dtype == DType::F16 || dtype == DType::F32 || dtype == DType::F64 || dtype == DType::I8 || dtype == DType::U8;
  const DType through = taken ? dtype : DType::F32;
  if (!taken && info(dtype).bits > 16) w.unsupported("ONNX's MaxPool takes floats and 8-bit integers");
  const Names y = w.op_many("MaxPool", {w.cast(w.in(0), dtype, through)}, std::move(attributes), w.used(1) ? 2 : 1);
  w.result(0, w.cast(y[0], through, dtype));
  if (!w.used(1)) return w.result(1, "");
  // Theirs counts through the whole tensor, ours through one channel.

  const Exprs extents = w.extents();
  std::string product;
  for (size_t k = 2; k < extents.size(); ++k) {
    const std::string extent = w.list({extents[k]});
    product = product.empty() ? extent : w.op("Mul", {product, extent});
  }
  w.result(1, w.cast(w.op("Mod", {y[1], product}), DType::I64, w.result_type(1).dtype));
}

void average_pool(NodeWriter& w) {
  const Windowed v{w};
  if (w.attrs().flag(4) && w.opset() < 19) {
    // Up to opset 18 the rounded up number of windows counts one that begins behind the end.
    const std::vector<int64_t> window = w.fixed(0), stride = w.fixed(1), low = w.fixed(2), high = w.fixed(3);
    for (size_t k = 0; k < window.size(); ++k) {
      const int64_t room = w.type().shape[k + 2] + low[k] + high[k] - window[k];
      if ((room + stride[k] - 1) / stride[k] + 1 != w.result_type().shape[k + 2])
        w.unsupported("rounding up over a last window that begins in the padding needs opset 19");
    }
  }
  v.result(w.op("AveragePool", {v.operand(0)},
                {attribute("kernel_shape", w.fixed(0)), attribute("strides", w.fixed(1)),
                 attribute("pads", joined(w.fixed(2), w.fixed(3))), attribute("ceil_mode", w.attrs().flag(4)),
                 attribute("count_include_pad", w.attrs().flag(5))}));
}

void along_axis(NodeWriter& w, std::string_view type) {
  const int64_t axis = normalize_axis("export", w.fixed(0)[0], w.rank());
  w.result(0, w.op(type, {w.in(0)}, {attribute("axis", axis)}));
}
void softmax(NodeWriter& w) { along_axis(w, "Softmax"); }
void log_softmax(NodeWriter& w) { along_axis(w, "LogSoftmax"); }

// LayerNormalization is over the last axes, with a weight of their shape, and needs one.
bool is_layer_norm(const NodeFacts& f) {
  const Shape& x = f.in[0].shape;
  const auto rank = static_cast<int64_t>(x.size());
  const Ints axes = ops::reduction_axes("export", f.node.attrs.ints(0), rank);
  if (axes.empty() || !f.node.attrs.flag(2) || !is_float(f.in[0].dtype) || f.in[0].dtype == DType::F64) return false;
  for (size_t k = 0; k < axes.size(); ++k) {
    if (axes[k] != rank - static_cast<int64_t>(axes.size() - k)) return false;
  }
  const Shape last(x.end() - static_cast<std::ptrdiff_t>(axes.size()), x.end());
  const auto fits = [&](size_t i) {
    return f.node.inputs.size() > i && f.node.inputs[i] != ir::kAbsent && f.in[i].shape == last;
  };
  const bool bias_absent = f.node.inputs.size() < 3 || f.node.inputs[2] == ir::kAbsent;
  return fits(1) && (bias_absent || fits(2));
}
void layer_norm(NodeWriter& w) {
  const Ints axes = ops::reduction_axes("export", w.attrs().ints(0), w.rank());
  const size_t results = w.used(1) || w.used(2) ? 3 : 1;
  const Names y =
      w.op_many("LayerNormalization", w.ins(), {attribute("axis", axes[0]), attribute("epsilon", w.real(1))}, results);
  for (size_t i = 0; i < 3; ++i) w.result(i, i < y.size() ? y[i] : "");
}

constexpr ExportRule kRules[] = {
    {"matmul", "MatMul", matmul},
    {"matmul_integer", "MatMulInteger", matmul_integer},
    {"einsum", "Einsum", einsum},
    {"conv", "Conv", conv},
    {"convolution_integer", "ConvInteger", convolution_integer},
    {"conv_input_gradient", "ConvTranspose", conv_input_gradient},
    {"conv_weight_gradient", "Conv", conv_weight_gradient},
    {"max_pool", "MaxPool", max_pool},
    {"average_pool", "AveragePool", average_pool},
    {"average_pool_gradient", "", nullptr, kOldestExportOpset, nullptr, "ONNX has no gradient of pooling"},
    {"softmax", "Softmax", softmax},
    {"log_softmax", "LogSoftmax", log_softmax},
    {"normalize", "LayerNormalization", layer_norm, 17, is_layer_norm},
};

}  // namespace

std::span<const ExportRule> network_export_rules() { return kRules; }

std::vector<ExportRow> export_table() {
  std::vector<ExportRow> rows;
  for (const ops::OpDef* op : ops::table()) {
    ExportRow row{std::string(op->name), {}, {}};
    const ExportRule* rule = find_export_rule(op->name);
    const bool body =
        std::holds_alternative<ops::Composite>(op->meaning) || std::holds_alternative<ops::Elementwise>(op->meaning);
    if (rule && rule->write) {
      row.onnx = std::string(rule->onnx);
    } else if (rule) {
      row.reason = std::string(rule->reason);
    } else if (body) {
      row.onnx = "its body";
    } else {
      row.reason = "no form yet";
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace tenon::formats::onnx
