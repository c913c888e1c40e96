// Products of 8-bit integers with every kind of zero point, against the same product of wide integers.
#include <gtest/gtest.h>

#include "tenon/formats/onnx/model.h"
#include "tenon/formats/onnx/proto_write.h"
#include "tenon/tenon.h"

namespace tenon::formats::onnx {
namespace {

// A model of this one node, whose inputs and outputs are its own.
Model node_model(const std::string& op, const Tensors& in) {
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
  data.graph.outputs.push_back(declare("y", i32));
  data.graph.nodes.push_back(node);
  return Model::parse(serialize(data), nullptr, op);
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
