#!/usr/bin/env python3
"""Runs the rows of bench/rows_bench.cpp, alone or in turns with peers. scripts/bench builds the program and calls this.

Tenon and every peer are processes that wait; each round asks one after the other for a few runs, so that what disturbs
the machine disturbs them alike. Before that each peer has compared its results with Tenon's on the same data and
weights. A row's ratio is the median over rounds of (best peer's median / Tenon's median) of that round: above 1 Tenon
is faster; the spread is the smallest and the largest round.
"""
import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PEERS = {  # name: script and mode
    "torch": ("torch_rows.py", "eager"),
    "torch.compile": ("torch_rows.py", "compile"),
    "numpy": ("numpy_rows.py", "numpy"),
    "jax": ("jax_rows.py", "jax"),
    "onnxruntime": ("onnx_rows.py", "onnxruntime"),
    "openvino": ("onnx_rows.py", "openvino"),
}
ONE_THREAD = ("eager_add_8", "record_op", "matmul_f32", "matmul_bf16", "matmul_i8", "conv_i8", "depthwise", "mobilenetv2_b1")
# A name that stands for all rows that begin with it and a "_".
ALIASES = ("matmul_f32", "matmul_bf16", "matmul_i8", "conv_i8", "depthwise")
# First steps of a compiled training step, in a fresh process each time: compile_bench.cpp. "_warm": a second process
# that finds the first one's machine code on the disk.
COMPILE = [f"compile_{model}{warm}" for model in ("mlp", "gpt2", "resnet50") for warm in ("", "_warm")]

NO_PEER = {"peer": None, "peer_median_seconds": None, "ratio": None}


class Process:
    """A program that speaks the protocol of peers/rows.py."""

    def __init__(self, command, threads):
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads),
                       "MKL_NUM_THREADS": str(threads), "KMP_BLOCKTIME": "1"}
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                        text=True, env=environment)
        self.facts = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            raise RuntimeError(self.errors.read().decode(errors="replace").strip()[-2000:])
        return json.loads(line)

    def run(self, count):
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def wall_time(process):
    begin = time.perf_counter()
    process.run(1)
    return time.perf_counter() - begin


def runs_for(seconds, budget):
    return max(1, min(200, int(budget / max(seconds, 1e-6))))


def instructions(program, folder, threads):
    """Of one eager_add_8 call: callgrind on two lengths, the difference divided."""
    if shutil.which("valgrind") is None:
        return None
    counts = []
    for runs in (1, 3):
        out = subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/callgrind.out", program,
                              "eager_add_8", str(threads), folder], input=f"{runs}\n", capture_output=True, text=True)
        line = [text for text in out.stderr.splitlines() if "Collected" in text]
        if not line:
            return None
        counts.append(int(line[0].split(":")[-1]))
    return (counts[1] - counts[0]) / 2000


def open_peers(row, options, threads, folder):
    peers, settings, notes = {}, {}, []
    for name in options.peer_names:
        script, mode = PEERS[name]
        try:
            peer = Process([options.python, str(ROOT / "peers" / script), mode, row, str(threads), folder], threads)
        except RuntimeError as error:
            lines = str(error).splitlines()
            notes.append(f"{name}: {lines[-1] if lines else 'ended without a word'}")
            continue
        if "absent" in peer.facts:
            peer.close()
            continue
        peers[name] = peer
        settings[name] = peer.facts.get("settings", "")
    return peers, settings, notes


def measure(row, options):
    threads = 1 if row.startswith(ONE_THREAD) else options.threads
    with tempfile.TemporaryDirectory() as folder:
        tenon = Process([options.program, row, str(threads), folder], threads)
        peers, settings, notes = open_peers(row, options, threads, folder)
        count = {name: runs_for(wall_time(p), options.seconds / options.rounds)
                 for name, p in {"tenon": tenon, **peers}.items()}
        times = {name: [] for name in ("tenon", *peers)}
        copies, ratios, per_round = [], [], []
        for _ in range(options.rounds):
            medians = {}
            for name, process in {"tenon": tenon, **peers}.items():
                time.sleep(0.02)  # threads of the one before have stopped spinning
                got = process.run(count[name])
                times[name] += got["seconds"]
                copies += got.get("copy_seconds", [])
                medians[name] = statistics.median(got["seconds"])
            per_round.append(medians)
        if peers:
            best = min(peers, key=lambda name: statistics.median(times[name]))
            ratios = [r[best] / r["tenon"] for r in per_round]
        for process in (tenon, *peers.values()):
            process.close()
        result = {"row": row, "threads": threads, "median_seconds": statistics.median(times["tenon"]),
                  "min_seconds": min(times["tenon"]), "runs": len(times["tenon"]), **NO_PEER}
        if peers:
            result |= {"peer": best, "peer_median_seconds": statistics.median(times[best]),
                       "peer_min_seconds": min(times[best]), "ratio": statistics.median(ratios),
                       "ratio_low": min(ratios), "ratio_high": max(ratios), "settings": settings,
                       "peers": {n: statistics.median(times[n]) for n in peers},
                       "agreement": {n: p.facts.get("error") for n, p in peers.items()}}
        if copies:
            # Both move `bytes`, so the share of the copy's bandwidth is the ratio of times.
            result["copy_bandwidth_share"] = statistics.median(copies) / result["median_seconds"]
        if "flops" in tenon.facts:
            result["gflops"] = tenon.facts["flops"] / result["median_seconds"] / 1e9
        if row == "eager_add_8" and options.instructions:
            result["instructions"] = instructions(options.program, folder, threads)
        if notes:
            result["notes"] = notes
        return result


def first_step(options, arguments):
    command = [str(Path(options.program).parent / "compile_bench"), "--first", "--threads", str(options.threads), *arguments]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(re.search(r"step 1: ([0-9.]+) ms", text).group(1)) / 1e3


def measure_compile(row, options):
    name, warm = row.removesuffix("_warm"), row.endswith("_warm")
    first, eager = [], []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            seconds = first_step(options, ["--disk", folder, name])
            if warm:
                seconds = first_step(options, ["--disk", folder, name])
        first.append(seconds)
        eager.append(first_step(options, ["--eager", name]))
    return {"row": row, "threads": options.threads, "median_seconds": statistics.median(first), "min_seconds": min(first),
            "runs": len(first), **NO_PEER, "eager_first_seconds": statistics.median(eager),
            "over_eager_seconds": statistics.median(f - e for f, e in zip(first, eager))}


def readable(seconds):
    for unit, scale in (("s", 1), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def shown(r):
    text = f"{r['row']:26} {readable(r['median_seconds']):>9} {readable(r['min_seconds']):>9} {r['runs']:5}  "
    if r["ratio"] is not None:
        text += f"{r['peer']:14} {readable(r['peer_median_seconds']):>9}  {r['ratio']:.2f} ({r['ratio_low']:.2f} to {r['ratio_high']:.2f})"
    for key, what in (("copy_bandwidth_share", "of copy bandwidth"), ("gflops", "GFLOP/s"), ("instructions", "instructions"),
                      ("over_eager_seconds", "s over the eager first step")):
        if r.get(key) is not None:
            text += f"  {r[key]:.3g} {what}"
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="names, separated by commas; a name ending in * takes all that begin so")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="for each program and row")
    parser.add_argument("--json", help="write the results there")
    parser.add_argument("--program", default="build/release/bin/rows_bench")
    parser.add_argument("--python", default=sys.executable, help="the peers' Python")
    parser.add_argument("--peers", default="", help="names of peers, separated by commas, or 'all'")
    parser.add_argument("--no-instructions", dest="instructions", action="store_false")
    options = parser.parse_args()
    for name in ("threads", "rounds"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} wants 1 or more")
    if not options.seconds > 0:
        parser.error("--seconds wants more than 0")
    options.peer_names = list(PEERS) if options.peers == "all" else [p for p in options.peers.split(",") if p]
    unknown = [p for p in options.peer_names if p not in PEERS]
    if unknown:
        parser.error(f"there is no peer {unknown[0]!r}; there are {', '.join(PEERS)}")
    known = subprocess.run([options.program, "--list"], check=True, capture_output=True, text=True).stdout.split() + COMPILE
    wanted = [w for w in options.rows.split(",") if w] or known
    chosen = []
    for name in wanted:
        start = name[:-1] if name.endswith("*") else f"{name}_" if name in ALIASES else None
        found = [k for k in known if k == name or (start is not None and k.startswith(start))]
        if not found:
            parser.error(f"there is no row {name!r}; there are {', '.join(known)}")
        chosen += [f for f in found if f not in chosen]
    results, settings = [], {}
    keep(options, results)  # a path that cannot be written is found before anything is measured
    print(f"{'row':26} {'median':>9} {'least':>9} {'runs':>5}  {'best peer':14} {'median':>9}  ratio, above 1: Tenon is faster")
    for row in chosen:
        try:
            r = measure_compile(row, options) if row in COMPILE else measure(row, options)
        except RuntimeError as error:
            lines = str(error).splitlines()
            r = {"row": row, **NO_PEER, "error": lines[-1] if lines else "ended without a word"}
            print(f"{row:26} failed: {r['error']}", flush=True)
            results.append(r)
            keep(options, results)
            continue
        results.append(r)
        keep(options, results)
        settings |= r.get("settings", {})
        print(shown(r), flush=True)
        for note in r.get("notes", []):
            print(f"    {note}", flush=True)
    for name, text in settings.items():
        print(f"{name}: {text}")
    return 1 if any("error" in r for r in results) else 0


def keep(options, results):
    """The rows so far: whoever ends a long run loses none."""
    if not options.json:
        return
    facts = {"date": time.strftime("%Y-%m-%d"), "cpu": cpu_name(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    text = json.dumps({"machine": facts, "rows": results}, indent=1) + "\n"
    try:
        Path(options.json).write_text(text)
    except OSError as error:
        sys.exit(f"{options.json}: {error.strerror}")


def cpu_name():
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return "unknown"


if __name__ == "__main__":
    sys.exit(main())
