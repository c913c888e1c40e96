"""Writes tests/ops/goldens/index.json: NumPy's answers to random indices, for reading and for assignment."""

import json
import random
from pathlib import Path

import numpy as np

random.seed(7)


def entry(extents, allow_tensors, broadcast):
    kind = random.choice(["int", "slice", "slice", "newaxis", "tensor", "tensor", "mask"] if allow_tensors else
                         ["int", "slice", "slice", "newaxis"])
    n = extents[0]
    if kind == "int":
        return 1, {"i": random.randrange(-n, n)}
    if kind == "slice":
        step = random.choice([1, 1, 2, -1, -2])
        ends = [random.choice([None, random.randrange(-n - 1, n + 2)]) for _ in range(2)]
        return 1, {"s": [*ends, step]}
    if kind == "newaxis":
        return 0, {"n": 1}
    if kind == "tensor":
        shape = random.choice([broadcast, broadcast[1:], [1] * len(broadcast)])
        return 1, {"t": np.array([random.randrange(-n, n) for _ in range(int(np.prod(shape, dtype=int)))]).reshape(shape).tolist()}
    axes = random.choice([1, 2]) if len(extents) > 1 else 1
    return axes, {"m": (np.arange(int(np.prod(extents[:axes]))).reshape(extents[:axes]) % 3 == 1).tolist()}


def to_numpy(e):
    if "i" in e:
        return e["i"]
    if "s" in e:
        return slice(*e["s"])
    if "n" in e:
        return None
    if "e" in e:
        return Ellipsis
    if "t" in e:
        return np.array(e["t"], dtype=np.int64)
    return np.array(e["m"], dtype=bool)


cases = []
while len(cases) < 240:
    shape = [random.randrange(1, 5) for _ in range(random.randrange(1, 5))]
    x = np.arange(int(np.prod(shape))).reshape(shape)
    tensors = random.random() < 0.7
    broadcast = random.choice([[2], [3], [2, 3], [2, 1]])
    entries, used = [], 0
    while used < len(shape) and random.random() < 0.85:
        axes, e = entry(shape[used:], tensors, broadcast)
        entries.append(e)
        used += axes
    if random.random() < 0.3:
        left = len(shape) - used
        tail = []
        if left > 0 and random.random() < 0.7:
            axes, e = entry([shape[-1]], tensors, broadcast)
            tail = [e] if axes <= 1 else []
        entries = [*entries, {"e": 1}, *tail]
    try:
        key = tuple(to_numpy(e) for e in entries)
        y = x[key]
        z = x.copy()
        z[key] = -(1 + np.arange(int(np.prod(np.shape(y))))).reshape(np.shape(y))
    except IndexError:
        continue
    cases.append({"shape": shape, "index": entries, "result_shape": list(np.shape(y)),
                  "result": np.asarray(y).ravel().tolist(), "after_set": z.ravel().tolist()})
out = Path(__file__).resolve().parents[2] / "tests/ops/goldens/index.json"
out.parent.mkdir(exist_ok=True)
out.write_text("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")
print(len(cases), out.stat().st_size)
