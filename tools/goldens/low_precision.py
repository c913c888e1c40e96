#!/usr/bin/env python3
"""Writes the goldens of the narrow floats into tests/tensor/goldens/ (needs numpy and ml_dtypes).

    python3 tools/goldens/low_precision.py tests/tensor/goldens

low_precision_values.bin  the value of every pattern of f8e4m3 (256) and f8e5m2 (256), as f32
low_precision_casts.txt   "format source-bits expected-bits": casts of f32 and f64 numbers near every rounding decision.
                          f16 from NumPy, the rest from ml_dtypes; f64 -> bf16 and f8 by exact rational arithmetic,
                          because ml_dtypes rounds some of them twice.
"""

import struct
import sys
from fractions import Fraction
from pathlib import Path

import ml_dtypes
import numpy as np

FORMATS = {"f16": (np.float16, np.uint16, 10), "bf16": (ml_dtypes.bfloat16, np.uint16, 7),
           "f8e4m3": (ml_dtypes.float8_e4m3fn, np.uint8, 3), "f8e5m2": (ml_dtypes.float8_e5m2, np.uint8, 2)}


def values_of(dtype, bits):
    return np.arange(2 ** bits, dtype=np.uint64).astype(np.uint8 if bits == 8 else np.uint16).view(dtype).astype(np.float32)


def exact_cast(value, dtype, unsigned):
    """Nearest, ties to even, by rational arithmetic on the sorted list of the format's finite values."""
    bits = 8 * np.dtype(unsigned).itemsize
    positive = np.arange(2 ** (bits - 1), dtype=np.uint64).astype(unsigned)
    numbers = positive.view(dtype).astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    sign = 2 ** (bits - 1) if value < 0 else 0
    x = abs(Fraction(value))
    i = min(int(np.searchsorted(finite, abs(value))), len(finite) - 1)
    best = min((k for k in (i - 1, i, i + 1) if 0 <= k < len(finite)),
               key=lambda k: (abs(Fraction(float(finite[k])) - x), k & 1))
    top = Fraction(float(finite[-1]))
    half_step = (top - Fraction(float(finite[-2]))) / 2
    if x > top + half_step or (x == top + half_step and (len(finite) - 1) & 1):
        best = len(finite)  # infinity, or NaN in e4m3fn
    return sign | best


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "low_precision_values.bin", "wb") as out:
        for name in ("f8e4m3", "f8e5m2"):
            dtype = FORMATS[name][0]
            out.write(values_of(dtype, 8).view(np.uint32).tobytes())

    random = np.random.default_rng(7)
    lines = []
    for name, (dtype, unsigned, mantissa) in FORMATS.items():
        bits = 8 * np.dtype(unsigned).itemsize
        patterns = random.integers(0, 2 ** bits, 60).astype(unsigned)
        edges = np.array([0, 1, 2, 2 ** mantissa - 1, 2 ** mantissa, 2 ** (bits - 1) - 1], dtype=unsigned)
        near = np.concatenate([patterns, edges]).view(dtype).astype(np.float64)
        near = near[np.isfinite(near)]
        largest = float(np.max(np.abs(near)))
        step = np.abs(near) * 2.0 ** (-mantissa - 1)
        tiny = float(ml_dtypes.finfo(dtype).smallest_subnormal)
        doubles = np.concatenate([near, near + step, near - step, (near + step) * (1 + 2.0 ** -40), near + tiny / 2,
                                  np.array([0.0, -0.0, largest * 1.01, largest * 1.07, largest * 2, -largest * 4])])
        with np.errstate(over="ignore"):
            for value in np.concatenate([doubles.astype(np.float32), np.float32([np.inf, -np.inf])]):
                expected = np.array([value], np.float32).astype(dtype).view(unsigned)[0]
                lines.append(f"f32 {name} {np.float32(value).view(np.uint32):08x} {int(expected):x}")
        for value in doubles:
            value = float(value)
            if value == 0:
                continue
            expected = exact_cast(value, dtype, unsigned)
            if name == "f16":
                with np.errstate(over="ignore"):
                    assert int(np.array([value]).astype(np.float16).view(np.uint16)[0]) == expected, value
            lines.append(f"f64 {name} {struct.unpack('<Q', struct.pack('<d', value))[0]:016x} {expected:x}")
    (folder / "low_precision_casts.txt").write_text("\n".join(sorted(set(lines))) + "\n")


main()
