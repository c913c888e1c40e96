"""ONNX files of the comparisons, with random weights: a small MLP, ResNet-50 as published (224 x 224, 25.6 million parameters), and a
classifier of short texts of DistilBERT's shape (16 tokens, six layers of 768, 66 million parameters).

    python bench/serve_models.py FOLDER [NAME…]         needs the package onnx; writes mlp.onnx, resnet50.onnx and distilbert.onnx
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Graph:
    def __init__(self):
        self.nodes, self.weights, self.random, self.count = [], [], np.random.default_rng(1), 0

    def weight(self, *shape, scale=1.0):
        self.count += 1
        self.weights.append(numpy_helper.from_array((self.random.standard_normal(shape) * scale).astype(np.float32), f"w{self.count}"))
        return f"w{self.count}"

    def node(self, op, *inputs, **attributes):
        self.count += 1
        self.nodes.append(helper.make_node(op, list(inputs), [f"t{self.count}"], **attributes))
        return f"t{self.count}"

    def constant(self, value):
        self.count += 1
        self.weights.append(numpy_helper.from_array(np.array(value), f"w{self.count}"))
        return f"w{self.count}"

    def save(self, path, shape, out, width, element=TensorProto.FLOAT):
        self.nodes.append(helper.make_node("Identity", [out], ["y"]))
        graph = helper.make_graph(self.nodes, path.stem,
                                  [helper.make_tensor_value_info("x", element, ["batch", *shape])],
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", width])], self.weights)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def mlp(path):
    g, x, width = Graph(), "x", 784
    for out in (256, 128, 10):
        x = g.node("Gemm", x, g.weight(out, width, scale=width**-0.5), g.weight(out), transB=1)
        width = out
        if out != 10:
            x = g.node("Relu", x)
    g.save(path, [784], x, 10)


def resnet50(path):
    g = Graph()

    def conv(x, inputs, outputs, kernel, stride=1, relu=True):
        # Normalisation is folded into weight and bias, as exporters do for inference.
        y = g.node("Conv", x, g.weight(outputs, inputs, kernel, kernel, scale=(2 / (inputs * kernel * kernel)) ** 0.5),
                   g.weight(outputs, scale=0.01), kernel_shape=[kernel, kernel], strides=[stride, stride], pads=[kernel // 2] * 4)
        return g.node("Relu", y) if relu else y

    x = conv("x", 3, 64, 7, 2)
    x, width = g.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), 64
    for stage, (blocks, inner) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            y = conv(conv(conv(x, width, inner, 1), inner, inner, 3, stride), inner, 4 * inner, 1, relu=False)
            if block == 0:
                x = conv(x, width, 4 * inner, 1, stride, relu=False)
            x, width = g.node("Relu", g.node("Add", x, y)), 4 * inner
    x = g.node("Flatten", g.node("GlobalAveragePool", x))
    g.save(path, [3, 224, 224], g.node("Gemm", x, g.weight(1000, width, scale=0.02), g.weight(1000), transB=1), 1000)


def distilbert(path, tokens=16, width=768, heads=12, layers=6, vocabulary=30522):
    g = Graph()

    def linear(x, inputs, outputs):
        return g.node("Add", g.node("MatMul", x, g.weight(inputs, outputs, scale=inputs**-0.5)), g.weight(outputs, scale=0.1))

    def norm(x):
        return g.node("LayerNormalization", x, g.weight(width), g.weight(width, scale=0.1), axis=-1, epsilon=1e-12)

    def split(x, order):  # into heads
        return g.node("Transpose", g.node("Reshape", x, in_heads), perm=order)

    in_heads, joined = g.constant([0, 0, heads, width // heads]), g.constant([0, 0, width])
    half, one, root = (g.constant(np.float32(v)) for v in (0.5, 1, 2**0.5))
    scale = g.constant(np.float32((width // heads) ** -0.5))
    x = norm(g.node("Add", g.node("Gather", g.weight(vocabulary, width), "x"), g.weight(tokens, width)))
    for _ in range(layers):
        q, k, v = (split(linear(x, width, width), order) for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
        seen = g.node("MatMul", g.node("Softmax", g.node("Mul", g.node("MatMul", q, k), scale), axis=-1), v)
        x = norm(g.node("Add", x, linear(g.node("Reshape", g.node("Transpose", seen, perm=[0, 2, 1, 3]), joined), width, width)))
        inner = linear(x, width, 4 * width)
        gelu = g.node("Mul", g.node("Mul", inner, half), g.node("Add", g.node("Erf", g.node("Div", inner, root)), one))
        x = norm(g.node("Add", x, linear(gelu, 4 * width, width)))
    first = g.node("Gather", x, g.constant(0), axis=1)
    g.save(path, [tokens], linear(g.node("Tanh", linear(first, width, width)), width, 2), 2, TensorProto.INT64)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for make in (mlp, resnet50, distilbert):
        if len(sys.argv) == 2 or make.__name__ in sys.argv[2:]:
            make(folder / f"{make.__name__}.onnx")
