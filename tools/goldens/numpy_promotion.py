#!/usr/bin/env python3
"""Writes tests/tensor/goldens/promotion.txt: numpy.promote_types for every pair of NumPy's dtypes.

    python3 tools/goldens/numpy_promotion.py > tests/tensor/goldens/promotion.txt     (needs numpy)

One line "a b result" for each pair, in Tenon's names.
"""

import numpy as np

NAMES = {"bool": "bool", "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64", "i8": "int8", "i16": "int16",
         "i32": "int32", "i64": "int64", "f16": "float16", "f32": "float32", "f64": "float64"}
OURS = {theirs: ours for ours, theirs in NAMES.items()}

for a in NAMES:
    for b in NAMES:
        print(a, b, OURS[np.promote_types(NAMES[a], NAMES[b]).name])
