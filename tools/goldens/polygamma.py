"""Writes tests/ops/goldens/polygamma.json: rows of [n, x, polygamma(n, x)] by mpmath with 40 digits, x exact in f64."""

import json
from pathlib import Path

import mpmath

mpmath.mp.dps = 40
rows = []
for n in (1, 2, 3, 6):
    xs = [2.0**-40, 0.001, 0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.4616, 1.5, 2.0, 3.7, 7.9, 11.99, 12.0, 20.5, 100.25, 1e4 + 0.5, 1e8, 1e12]
    xs += [-0.25, -0.5, -0.9, -1.5, -3.3, -10.7, -50.25]
    rows += [[n, x, float(mpmath.polygamma(n, mpmath.mpf(x)))] for x in xs]
out = Path(__file__).resolve().parents[2] / "tests/ops/goldens/polygamma.json"
out.write_text("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")
print(len(rows), out.stat().st_size)
