#!/usr/bin/env python3
"""ONNX files as `tenon serve` runs them: as programs, node by node as before, and in ONNX Runtime, in turns.

    bench/onnx_models.py MODEL.onnx[:NAME=4,NAME=64] … [--set INPUT=NUMBER] [--threads 1] [--rounds 7]

Needs onnxruntime and numpy, and onnx_bench (cmake -DTENON_BENCH=ON). Open extents are 1 unless they are given; one without a name is called
INPUT_AXIS. Inputs are
random numbers in [-1, 1] (floats) or below 2 (integers); --set gives an input one value. Both forms of Tenon must agree with
ONNX Runtime before anything is timed. Ratios are medians over rounds, above 1 Tenon's programs are faster; smallest and
largest round behind them.
"""
import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

from run import Process, runs_for

DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
          "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8,
          "tensor(bool)": np.bool_}


class Peer:
    """ONNX Runtime in this process, with the words of Process."""

    def __init__(self, path, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        onnxruntime.set_default_logger_severity(3)
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.feed = {}

    def run(self, count):
        seconds = []
        for _ in range(count):
            begin = time.perf_counter()
            self.session.run(None, self.feed)
            seconds.append(time.perf_counter() - begin)
        return {"seconds": seconds}

    def close(self):
        pass


def made_inputs(session, sizes, given):
    random, feed = np.random.default_rng(1), {}
    for info in session.get_inputs():
        shape = [d if isinstance(d, int) else sizes.get(d or f"{info.name}_{axis}", 1) for axis, d in enumerate(info.shape)]
        dtype = DTYPES[info.type]
        if info.name in given:
            feed[info.name] = np.full(shape, given[info.name], dtype)
        elif np.issubdtype(dtype, np.floating):
            feed[info.name] = random.uniform(-1, 1, shape).astype(dtype)
        else:
            feed[info.name] = random.integers(0, 2, shape).astype(dtype)
    return feed


def apart(got, want):
    """The largest difference, relative to the largest magnitude."""
    got, want = got.astype(np.float64), want.astype(np.float64)
    return float(np.max(np.abs(got - want), initial=0) / max(np.max(np.abs(want), initial=0), 1e-30))


def measure(word, options):
    path, _, text = word.partition(":")
    sizes = {name: int(number) for name, number in (part.split("=") for part in text.split(",") if part)}
    given = {name: float(number) for name, number in (part.split("=") for part in options.set)}
    with tempfile.TemporaryDirectory() as folder:
        peer = Peer(path, options.threads)
        peer.feed = made_inputs(peer.session, sizes, given)
        for i, array in enumerate(peer.feed.values()):
            np.save(f"{folder}/input_{i}.npy", array)
        want = peer.session.run(None, peer.feed)
        all_ = {"program": None, "nodes": None, "onnxruntime": peer}
        row = {"model": Path(path).name if Path(path).stem != "model" else Path(path).parent.name, "threads": options.threads}
        for mode in ("program", "nodes"):
            all_[mode] = Process([options.program, path, mode, str(options.threads), folder], options.threads)
            row[f"{mode}_differs"] = max(apart(np.load(f"{folder}/{mode}_{i}.npy"), y) for i, y in enumerate(want))
        same = all(np.array_equal(np.load(f"{folder}/program_{i}.npy"), np.load(f"{folder}/nodes_{i}.npy"), equal_nan=True)
                   for i in range(len(want)))
        halves = any(y.dtype == np.float16 for y in want)
        if row["program_differs"] > (1e-2 if halves else options.tolerance) or not same:
            raise RuntimeError(f"results differ from ONNX Runtime's by {row['program_differs']:.2g}; same bits as node by node: {same}")
        row |= {"execution": all_["program"].facts["execution"], "first_ms": all_["program"].facts["first_seconds"] * 1e3}
        counts = {}
        for name, process in all_.items():
            process.run(1)
            counts[name] = runs_for(min(process.run(2)["seconds"]), options.seconds / options.rounds)
        times, before, against = {name: [] for name in all_}, [], []
        for _ in range(options.rounds):
            medians = {}
            for name, process in all_.items():
                time.sleep(0.02)
                got = process.run(counts[name])["seconds"]
                times[name] += got
                medians[name] = statistics.median(got)
            before.append(medians["nodes"] / medians["program"])
            against.append(medians["onnxruntime"] / medians["program"])
        for process in all_.values():
            process.close()
        for name in all_:
            row[f"{name}_ms"], row[f"{name}_least_ms"] = statistics.median(times[name]) * 1e3, min(times[name]) * 1e3
        for name, ratios in (("over_nodes", before), ("over_onnxruntime", against)):
            row[name], row[f"{name}_spread"] = statistics.median(ratios), [min(ratios), max(ratios)]
        return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--set", action="append", default=[], metavar="INPUT=NUMBER")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=6, help="for each form of each model")
    parser.add_argument("--tolerance", type=float, default=2e-3, help="relative to the largest element; 0.01 for halves")
    parser.add_argument("--program", default="build/release/bin/onnx_bench")
    parser.add_argument("--json")
    options = parser.parse_args()
    rows, failed = [], False
    print(f"ONNX Runtime {onnxruntime.__version__}, {options.threads} threads\n{'model':26} {'program':>9} {'by node':>9} {'ORT':>9} ms "
          "(medians)   by node / program      ORT / program")
    for word in options.models:
        try:
            r = measure(word, options)
        except RuntimeError as error:
            print(f"{word}: {error}", flush=True)
            failed = True
            continue
        rows.append(r)
        print(f"{r['model']:26} {r['program_ms']:9.3f} {r['nodes_ms']:9.3f} {r['onnxruntime_ms']:9.3f}      "
              + "      ".join(f"{r[k]:5.2f} ({r[k + '_spread'][0]:.2f} to {r[k + '_spread'][1]:.2f})" for k in ("over_nodes", "over_onnxruntime"))
              + f"   differs by {r['program_differs']:.1g}; {r['execution']}", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
