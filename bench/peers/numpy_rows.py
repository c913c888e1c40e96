"""numpy_rows.py numpy ROW THREADS FOLDER (protocol: rows.py)"""
import os
import sys

import numpy as np

import rows

ROW, FOLDER = sys.argv[2], sys.argv[4]
if ROW != "eager_add_8":
    rows.absent("only small eager calls are compared with NumPy")
else:
    x = rows.load_arrays(os.path.join(FOLDER, "inputs.safetensors"))
    a, b = x["a"], x["b"]
    error = rows.compare(FOLDER, "y", a + b, 0)

    def run():
        for _ in range(1000):
            a + b

    rows.answer(run, 1000, settings=f"numpy {np.__version__}", error=error)
