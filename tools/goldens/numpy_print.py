#!/usr/bin/env python3
"""Writes tests/tensor/goldens/print.json: numpy.array2string's layout of many arrays (needs numpy >= 2.3).

    python3 tools/goldens/numpy_print.py > tests/tensor/goldens/print.json

Each case: dtype, shape, values (as integers, or floats by their f64 bits in hex; none: 0, 1, 2, …), text.
"""

import json
import struct

import numpy as np

NAMES = {"bool": "bool", "uint8": "u8", "uint64": "u64", "int32": "i32", "int64": "i64", "float16": "f16", "float32": "f32",
         "float64": "f64"}


def case(array):
    name = NAMES[array.dtype.name]
    flat = array.ravel()
    values = ([struct.pack(">d", float(v)).hex() for v in flat] if array.dtype.kind == "f" else [int(v) for v in flat])
    if array.size > 500:
        assert np.array_equal(flat, np.arange(array.size))
        values = None
    suffix = f", {name})"
    text = "tensor(" + np.array2string(array, prefix="tensor(", suffix=suffix, separator=", ") + suffix
    return {"dtype": name, "shape": list(array.shape), "values": values, "text": text}


r = np.random.default_rng(3)
arrays = [
    np.float32([1, 2]), np.float32([[1, 2.25], [-3, 4]]), np.float32(3), np.float64(0.1), np.float32([0.1, 1 / 3, 100]),
    np.float32([1, 2.5, 1e-5, 1e10]), np.float64([1e-5, 3.0, np.pi]), np.float64([1e8, 1]), np.float64([123456.789, 1000]),
    np.float32([np.nan, 1, -np.inf]), np.float32([np.nan, np.inf]), np.float32([-np.inf, 1e-7, np.nan]), np.float32([0, -0.0]),
    np.float16([0.1, 2, 3.14159]), np.float16([1000, 0.5]), np.float16([65504, -1]), np.float16(r.normal(size=5)),
    np.bool_([True, False, True]), np.bool_(True), np.bool_([[True], [False]]), np.array(-7, np.int64),
    np.arange(12, dtype=np.int32).reshape(3, 4) - 5, np.arange(24, dtype=np.int64).reshape(2, 3, 4),
    np.uint64([2 ** 64 - 1, 0]), np.arange(60, dtype=np.int64), np.arange(40, dtype=np.uint8).reshape(1, 40),
    r.normal(size=(3, 9)).astype(np.float32), r.normal(size=20), r.normal(size=(2, 2, 2, 2)).astype(np.float32),
    np.arange(1001, dtype=np.int64), np.arange(1000, dtype=np.int32).reshape(5, 200),
    np.arange(1200, dtype=np.int64).reshape(30, 40), np.arange(2000, dtype=np.float32).reshape(2, 500, 2),
    np.arange(1331, dtype=np.float32).reshape(11, 11, 11), np.float32([1e6, 1]), np.float32([999999, 1234]),
    np.float32([0.0001, 0.01]), np.float32([0.00009, 0.01]), np.float32([16777216.0]), np.float64([1.5e300, -2e-300]),
    np.float64([1 / 3, 2 / 3, 1e-3]), np.float32([1234.5678, 2]), np.float64([0.1 + 0.2, 1e-3]),
]
print(json.dumps([case(np.asarray(a)) for a in arrays], indent=0))
