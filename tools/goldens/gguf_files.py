"""Writes tests/formats/goldens/types.gguf with the gguf package, and what its tensors hold (types.gguf.json).

  pip install gguf numpy && python3 tools/goldens/gguf_files.py

With --check FOLDER: reads what Tenon's tests wrote there (TENON_KEEP_SAVED=FOLDER test_formats --gtest_filter='Gguf*') and compares it with
these.
"""
import json
import pathlib
import sys

import gguf
import numpy as np

folder = pathlib.Path(__file__).parents[2] / "tests/formats/goldens"


def check(saved):
    expected = json.loads((folder / "types.gguf.json").read_text())
    reader = gguf.GGUFReader(saved / "again.gguf")
    fields = {name: reader.get_field(name).contents() for name in ("test.count", "test.small", "test.real", "test.flag", "test.text", "test.list", "test.numbers")}
    assert fields == {"test.count": 7, "test.small": -3, "test.real": 0.25, "test.flag": True, "test.text": "größe", "test.list": ["a", "b", "ü"],
                      "test.numbers": [1, -2, 3]}, fields
    assert {t.name for t in reader.tensors} == set(expected)
    for t in reader.tensors:
        shape, values = expected[t.name]
        assert list(t.shape[::-1]) == shape, (t.name, t.shape, shape)
        data = gguf.dequantize(t.data, t.tensor_type) if t.data.dtype == np.uint8 else t.data  # bytes: bf16 or blocks
        assert (data.astype(np.float64).flatten() == values).all(), t.name
    q8 = json.loads((folder / "q8_0.json").read_text())
    t = gguf.GGUFReader(saved / "q8.gguf").tensors[0]
    assert t.tensor_type == gguf.GGMLQuantizationType.Q8_0
    assert (gguf.dequantize(t.data, t.tensor_type).flatten() == np.array(q8["quantized"], np.float32)).all()
    print(f"{len(expected)} tensors, {len(fields)} entries and the quantised matrix are the same")


if len(sys.argv) == 3 and sys.argv[1] == "--check":
    check(pathlib.Path(sys.argv[2]))
    sys.exit()
random = np.random.default_rng(5)
writer = gguf.GGUFWriter(str(folder / "types.gguf"), "llama")
writer.add_uint32("test.count", 7)
writer.add_int8("test.small", -3)
writer.add_float32("test.real", 0.25)
writer.add_bool("test.flag", True)
writer.add_string("test.text", "größe")
writer.add_array("test.list", ["a", "b", "ü"])
writer.add_array("test.numbers", [1, -2, 3])
expected = {}


def add(name, array, kind=None):
    if kind is None:
        writer.add_tensor(name, array)
        expected[name] = [list(array.shape), array.astype(np.float64).flatten().tolist()]
    else:
        writer.add_tensor(name, array, raw_dtype=kind)
        values = gguf.dequantize(array, kind)
        expected[name] = [list(values.shape), values.astype(np.float64).flatten().tolist()]


add("f32", random.normal(size=(2, 3)).astype(np.float32))
add("f16", random.normal(size=(4,)).astype(np.float16))
add("i32", np.array([[1, -2], [3, 4]], dtype=np.int32))
Q = gguf.GGMLQuantizationType
matrix = random.normal(size=(2, 64)).astype(np.float32)
for kind in (Q.Q8_0, Q.Q4_0, Q.BF16):
    quantized = gguf.quantize(matrix, kind)
    add(kind.name.lower(), quantized, kind)
for kind, scales in ((Q.Q4_K, (0, 2)), (Q.Q6_K, (208,))):
    size = gguf.GGML_QUANT_SIZES[kind][1]
    blocks = random.integers(0, 256, size=(2, size), dtype=np.uint8)
    for at in scales:
        blocks[:, at:at + 2] = np.array([[0.0371], [1.25]], dtype=np.float16).view(np.uint8)
    add(kind.name.lower(), blocks, kind)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
(folder / "types.gguf.json").write_text(json.dumps(expected))
# The Q8_0 form of a matrix, for the writer.
(folder / "q8_0.json").write_text(json.dumps({"values": matrix.flatten().tolist(), "quantized": gguf.dequantize(gguf.quantize(matrix, Q.Q8_0), Q.Q8_0).flatten().tolist()}))
