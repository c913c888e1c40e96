#!/usr/bin/env python3
"""Eager ops of Tenon and PyTorch on the same inputs: agreement first, then ratios of the least times.

    bench/ops.py --python VENV/bin/python [--bin build/release/bin] [--threads N] [--rounds N]

The least time of a call is what the machine can do; on a shared machine medians measure the neighbours. The spread is
over rounds. Calls of PyTorch go through Python, which costs it about a microsecond in the small ones. Under 1: Tenon
takes less.
"""
import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
RANDOM = {"normal", "dropout"}  # compared by distribution only
INPUTS = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from peer import Recorder
r = Recorder(seed=1)
s = r.normal(256, 256)
r.tensors = {"small": r.normal(8, 8), "row": r.normal(1024), "square": r.normal(1024, 1024), "square2": r.normal(1024, 1024),
  "wide": r.normal(2048, 1024), "index": r.integers(0, 1024, 256, 1024)[:, :], "image": r.normal(8, 32, 56, 56),
  "kernel": r.normal(64, 32, 3, 3), "q": r.normal(4, 8, 256, 64), "spd": s @ s.mT + 256 * torch.eye(256)}
r.tensors["index"] = r.tensors["index"].contiguous()
r.save(sys.argv[2])
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", default="python3")
    parser.add_argument("--bin", default="build/release/bin")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([options.python, "-c", INPUTS, str(ROOT.parent / "tools/goldens"), folder + "/inputs.safetensors"], check=True, stdout=subprocess.DEVNULL)
        for _ in range(options.rounds):
            run = lambda command: json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            rounds.append((run([f"{options.bin}/ops_bench", options.threads, folder]),
                           run([options.python, str(ROOT / "peers/torch_ops.py"), options.threads, folder])))
    print(f"{'op':22} {'Tenon us':>10} {'peer us':>10}   ratio (spread)")
    for name in rounds[0][0]:
        ours, peer = rounds[0][0][name]["checksum"], rounds[0][1][name]["checksum"]
        allowed = 0.01 if name in RANDOM else 1e-4
        assert abs(ours - peer) <= allowed * (1 + abs(peer)), f"{name}: mean {ours}, the peer's {peer}"
        ratios = [o[name]["least"] / p[name]["least"] for o, p in rounds]
        t, p = (statistics.median(r[i][name]["least"] for r in rounds) * 1e6 for i in (0, 1))
        print(f"{name:22} {t:10.2f} {p:10.2f}   {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
