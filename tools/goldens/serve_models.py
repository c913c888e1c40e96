#!/usr/bin/env python3
"""Writes the models of the server's tests with the onnx package: tests/serve/goldens/models/NAME/VERSION/model.onnx."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[2] / "tests" / "serve" / "goldens" / "models"


def save(name, version, nodes, inputs, outputs, weights=()):
    graph = helper.make_graph(nodes, name, inputs, outputs, [numpy_helper.from_array(v, k) for k, v in weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="")
    onnx.checker.check_model(model)
    path = ROOT / name / str(version) / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def main():
    info = helper.make_tensor_value_info
    # TensorFlow Serving's toy: y = x / 2 + 2, and + 3 as the next version.
    for version, add in ((123, 2.0), (124, 3.0)):
        save("half_plus_two", version,
             [helper.make_node("Mul", ["x", "a"], ["ax"]), helper.make_node("Add", ["ax", "b"], ["y"])],
             [info("x", TensorProto.FLOAT, ["batch"])], [info("y", TensorProto.FLOAT, ["batch"])],
             [("a", np.float32(0.5)), ("b", np.float32(add))])
    # Gives back what it gets, for every type.
    kinds = {"text": TensorProto.STRING, "i64": TensorProto.INT64, "u8": TensorProto.UINT8, "f16": TensorProto.FLOAT16,
             "flag": TensorProto.BOOL}
    save("echo", 1, [helper.make_node("Identity", [k], [k + "_out"]) for k in kinds],
         [info(k, t, ["batch", 2]) for k, t in kinds.items()], [info(k + "_out", t, ["batch", 2]) for k, t in kinds.items()])


if __name__ == "__main__":
    main()
