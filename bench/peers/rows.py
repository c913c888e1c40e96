"""What the peers of scripts/bench share: reading Tenon's inputs, comparing results, taking turns.

A peer is a process `PEER.py MODE ROW THREADS FOLDER`. It reads FOLDER/inputs.safetensors, computes what
FOLDER/tenon.safetensors holds, prints one JSON line {"ready": true, "settings": …} (or {"absent": why}), then answers
each line "N" with the seconds of N runs.
"""
import json
import os
import sys
import time

import numpy as np

sys.path.insert(0, os.path.dirname(__file__))
DTYPES = {"F32": np.float32, "F64": np.float64, "I64": np.int64, "I32": np.int32, "I8": np.int8, "U8": np.uint8}


def load_arrays(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    return {name: np.frombuffer(data[slice(*e["data_offsets"])], DTYPES[e["dtype"]]).reshape(e["shape"])
            for name, e in header.items() if name != "__metadata__"}


def compare(folder, name, got, tolerance):
    want = load_arrays(os.path.join(folder, "tenon.safetensors"))[name].astype(np.float64)
    got = np.asarray(got, dtype=np.float64)[tuple(slice(0, n) for n in want.shape)]
    error = np.abs(got - want).max() / (1e-6 + np.abs(want).max())
    assert error <= tolerance, f"{name} differs from Tenon's by {error:.3g} of its largest value (allowed {tolerance})"
    return float(error)


def answer(run, inner=1, **facts):
    """Says that it is ready and runs `run` as often as it is told; `inner`: how often `run` does the thing."""
    print(json.dumps({"ready": True, **facts}), flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            begin = time.perf_counter()
            run()
            seconds.append((time.perf_counter() - begin) / inner)
        print(json.dumps({"seconds": seconds}), flush=True)


def absent(why):
    print(json.dumps({"absent": why}), flush=True)
