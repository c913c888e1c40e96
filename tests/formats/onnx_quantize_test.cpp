// Products and convolutions of 8-bit integers with every kind of zero point, against the same product of wide integers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tenon/formats/onnx/export_writer.h"
#include "tenon/formats/onnx/model.h"
#include "tenon/formats/onnx/proto_write.h"
#include "tenon/tenon.h"

namespace tenon::formats::onnx {
namespace {

// A model of this one node, whose inputs and outputs are its own.
Model node_model(const std::string& op, const Tensors& in, const std::vector<Attribute>& attributes = {},
                 DType result = i32) {
  ModelData data;
  data.ir_version = 10;
  data.opsets[""] = 21;
  NodeData node;
  node.op_type = op;
  const auto declare = [](const std::string& name, DType dtype) {
    ValueInfo info;
    info.name = name;
    info.type.kind = TypeData::Kind::Tensor;
    info.type.element = data_type_of(dtype);
    return info;
  };
  for (size_t i = 0; i < in.size(); ++i) {
    node.inputs.push_back(in[i].defined() ? "x" + std::to_string(i) : "");
    if (in[i].defined()) data.graph.inputs.push_back(declare(node.inputs.back(), in[i].dtype()));
  }
  node.outputs = {"y"};
  data.graph.outputs.push_back(declare("y", result));
  node.attributes = attributes;
  data.graph.nodes.push_back(node);
  return Model::parse(serialize(data), nullptr, op);
}

std::map<std::string, Tensor> named_inputs(const Tensors& in) {
  std::map<std::string, Tensor> named;
  for (size_t i = 0; i < in.size(); ++i)
    if (in[i].defined()) named["x" + std::to_string(i)] = in[i];
  return named;
}
Tensor draw_bytes(const Shape& shape, DType dtype) {
  return dtype == u8 ? randint(0, 256, shape, u8) : randint(-128, 128, shape, i8);
}

struct ConvCase {
  Shape x, weight;
  std::vector<int64_t> pads, strides, dilations;
  int64_t group = 1;
  bool of_filters = false;  // whether each has a zero point of its own
};
const std::vector<ConvCase>& conv_cases() {
  static const std::vector<ConvCase> list{
      {{1, 1, 3, 3}, {1, 1, 2, 2}, {}, {}, {}},
      {{2, 7, 9, 8}, {5, 7, 3, 3}, {1, 1, 1, 1}, {}, {}, 1, true},
      {{1, 8, 6, 7}, {10, 4, 2, 3}, {0, 1, 2, 3}, {2, 1}, {1, 2}, 2},
      {{2, 6, 10, 10}, {6, 1, 3, 3}, {1, 1, 1, 1}, {2, 2}, {}, 6, true},
      {{1, 16, 5, 5}, {3, 16, 1, 1}, {}, {}, {}, 1, true},
      {{3, 4, 11}, {6, 4, 4}, {2, 1}, {3}, {2}},
      {{1, 3, 4, 5, 6}, {4, 3, 2, 3, 2}, {1, 0, 1, 0, 1, 1}, {}, {}, 1, true},
  };
  return list;
}
std::vector<Attribute> attributes_of(const ConvCase& c) {
  std::vector<Attribute> list{attribute("group", c.group)};
  if (!c.pads.empty()) list.push_back(attribute("pads", c.pads));
  if (!c.strides.empty()) list.push_back(attribute("strides", c.strides));
  if (!c.dilations.empty()) list.push_back(attribute("dilations", c.dilations));
  return list;
}
// ONNX's Conv of the same wide numbers.
Tensor wide_sums(const ConvCase& c, const Tensor& x, const Tensor& weight, const Tensor& x_zero,
                 const Tensor& weight_zero) {
  Tensor wide = cast(x, f64), filters = cast(weight, f64);
  if (x_zero.defined()) wide = wide - cast(x_zero, f64);
  Shape column(static_cast<size_t>(weight.ndim()), 1);
  column[0] = -1;
  if (weight_zero.defined()) filters = filters - reshape(cast(weight_zero, f64), column);
  const Tensors in{wide, filters};
  return *node_model("Conv", in, attributes_of(c), f64).run({{"x0", in[0]}, {"x1", in[1]}})[0].tensor();
}

TEST(OnnxQuantize, ConvIntegerTakesEveryKindOfZeroPoint) {
  const NoGrad no_grad;
  for (const ConvCase& c : conv_cases()) {
    for (const DType x_dtype : {u8, i8}) {
      for (const DType weight_dtype : {u8, i8}) {
        for (const bool has_zeros : {false, true}) {
          SCOPED_TRACE(to_string(c.x) + " * " + to_string(c.weight) + (has_zeros ? ", zeros" : ""));
          Tensors in{draw_bytes(c.x, x_dtype), draw_bytes(c.weight, weight_dtype), Tensor(), Tensor()};
          if (has_zeros) {
            in[2] = draw_bytes({}, x_dtype);
            in[3] = draw_bytes(c.of_filters ? Shape{c.weight[0]} : Shape{}, weight_dtype);
          }
          const Tensor expected = wide_sums(c, in[0], in[1], in[2], in[3]);
          const auto named = named_inputs(in);
          const Tensor got =
              *node_model("ConvInteger", in, attributes_of(c)).run({named.begin(), named.end()})[0].tensor();
          EXPECT_EQ(got.dtype(), i32);
          EXPECT_EQ(got.shape(), expected.shape());
          EXPECT_EQ(got.to_vector<int32_t>(), cast(expected, i32).to_vector<int32_t>());
        }
      }
    }
  }
}

// round(sums with bias * scales / scale) + zero, halves to even, cut to 8 bits.
TEST(OnnxQuantize, QLinearConvRoundsExactSums) {
  const NoGrad no_grad;
  for (const ConvCase& c : conv_cases()) {
    for (const DType x_dtype : {u8, i8}) {
      for (const DType y_dtype : {u8, i8}) {
        SCOPED_TRACE(to_string(c.x) + " * " + to_string(c.weight));
        const int64_t filters = c.weight[0];
        const Shape of_filters = c.of_filters ? Shape{filters} : Shape{};
        // Powers of two: half numbers are frequent, and every step is exact.
        const Tensor weight_scale = exp2(cast(randint(-3, 3, of_filters, i32), f32));
        const Tensor bias = randint(-1000, 1000, {filters}, i32);
        const Tensors in{draw_bytes(c.x, x_dtype),
                         Tensor(0.5F),
                         draw_bytes({}, x_dtype),
                         draw_bytes(c.weight, i8),
                         weight_scale,
                         draw_bytes(of_filters, i8),
                         Tensor(1024.0F),
                         draw_bytes({}, y_dtype),
                         bias};
        const Tensor sums = wide_sums(c, in[0], in[3], in[2], in[5]);
        const auto named = named_inputs(in);
        const Tensor got =
            *node_model("QLinearConv", in, attributes_of(c), y_dtype).run({named.begin(), named.end()})[0].tensor();
        EXPECT_EQ(got.dtype(), y_dtype);
        ASSERT_EQ(got.shape(), sums.shape());
        const auto values = sums.to_vector<double>();
        const auto scales = weight_scale.to_vector<float>();
        const auto more = bias.to_vector<int32_t>();
        const double zero = static_cast<double>(in[7].item<int64_t>());
        const size_t plane = values.size() / static_cast<size_t>(c.x[0] * filters);
        std::vector<int64_t> expected;
        for (size_t i = 0; i < values.size(); ++i) {
          const size_t f = i / plane % static_cast<size_t>(filters);
          const double real = (values[i] + more[f]) * 0.5 * scales[scales.size() == 1 ? 0 : f] / 1024;
          const double low = y_dtype == u8 ? 0 : -128;
          expected.push_back(static_cast<int64_t>(std::clamp(std::nearbyint(real) + zero, low, low + 255)));
        }
        EXPECT_EQ(got.to_vector<int64_t>(), expected);
      }
    }
  }
}

TEST(OnnxQuantize, MatMulIntegerTakesEveryKindOfZeroPoint) {
  const NoGrad no_grad;
  struct Shapes {
    Shape a, b, a_zero, b_zero;  // no axes at all and {-1}: absent
  };
  const Shape none{-1};
  const std::vector<Shapes> cases{{{5, 7}, {7, 3}, none, none},
                                  {{5, 7}, {7, 3}, {}, {}},
                                  {{5, 7}, {7, 3}, {1}, {3}},
                                  {{5, 7}, {7, 3}, {5}, {3}},
                                  {{5, 7}, {7, 3}, {5}, none},
                                  {{5, 7}, {7, 3}, none, {}},
                                  {{2, 5, 7}, {7, 3}, {2, 5, 1}, {}},
                                  {{2, 5, 7}, {2, 7, 3}, {}, {2, 1, 3}},
                                  {{7}, {7, 3}, {}, {3}},
                                  {{5, 7}, {7}, {5}, {}},
                                  {{7}, {7}, {}, {}},
                                  {{4, 0}, {0, 3}, {}, {}}};
  for (const Shapes& shapes : cases) {
    for (const DType a_dtype : {u8, i8}) {
      for (const DType b_dtype : {u8, i8}) {
        SCOPED_TRACE(to_string(shapes.a) + " @ " + to_string(shapes.b) + ", zeros " + to_string(shapes.a_zero) +
                     " and " + to_string(shapes.b_zero));
        const auto draw = [&](const Shape& shape, DType dtype) {
          if (shape == none) return Tensor();
          return dtype == u8 ? randint(0, 256, shape, u8) : randint(-128, 128, shape, i8);
        };
        Tensors in{draw(shapes.a, a_dtype), draw(shapes.b, b_dtype), draw(shapes.a_zero, a_dtype),
                   draw(shapes.b_zero, b_dtype)};
        Tensor a = cast(in[0], i64), b = cast(in[1], i64);
        if (in[2].defined()) {
          const Tensor zero = cast(in[2], i64);
          a = a - (zero.ndim() == 1 && zero.size() > 1 ? reshape(zero, {-1, 1}) : zero);
        }
        if (in[3].defined()) b = b - cast(in[3], i64);
        const Tensor expected = matmul(a, b);
        std::map<std::string, Tensor> named;
        for (size_t i = 0; i < in.size(); ++i)
          if (in[i].defined()) named["x" + std::to_string(i)] = in[i];
        const Tensor got = *node_model("MatMulInteger", in).run({named.begin(), named.end()})[0].tensor();
        EXPECT_EQ(got.dtype(), i32);
        EXPECT_EQ(got.shape(), expected.shape());
        EXPECT_EQ(got.to_vector<int64_t>(), expected.to_vector<int64_t>());
      }
    }
  }
}

}  // namespace
}  // namespace tenon::formats::onnx
