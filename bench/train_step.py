#!/usr/bin/env python3
"""Training steps of Tenon and PyTorch from the same weights and the same batch: agreement first, then ratios.

    bench/train_step.py --python VENV/bin/python [--bin build/release/bin] [--threads N] [--rounds N] [--compile] [MODEL…]

Each round runs both, one after the other; a figure is the median over rounds of the ratio of the two medians of a
round, and the spread is the smallest and largest round. Under 1: Tenon takes less.
"""
import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

CASES = {"mlp": (64, 200), "lenet": (64, 60), "gpt": (12, 40), "resnet18": (16, 4)}  # batch, steps
ROOT = Path(__file__).resolve().parent


def run(command):
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", default="python3")
    parser.add_argument("--bin", default="build/release/bin")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="the peer under torch.compile")
    parser.add_argument("models", nargs="*", default=list(CASES))
    options = parser.parse_args()
    print(f"{'model':10} {'batch':>5} {'Tenon ms':>9} {'peer ms':>9} {'time ratio (spread)':>24} {'memory MB':>10} {'peer':>7} {'ratio (spread)':>20}")
    for model in options.models:
        batch, steps = CASES[model]
        time_ratios, memory_ratios, rows = [], [], []
        for _ in range(options.rounds):
            with tempfile.TemporaryDirectory() as folder:
                ours = run([f"{options.bin}/train_step_bench", model, str(batch), str(steps), options.threads, folder])
                peer = run([options.python, str(ROOT / "peers/torch_train_step.py"), model, str(steps), options.threads, folder]
                           + ["--compile"] * options.compile)
            for i, (a, b) in enumerate(zip(ours["losses"][:3], peer["losses"][:3])):
                assert abs(a - b) <= 1e-3 * (1 + abs(b)), f"{model}: loss {i} is {a}, the peer's {b}"
            t, p = (statistics.median(r["seconds"][1:]) for r in (ours, peer))
            rows.append((t, p, ours["memory"], peer["memory"]))
            time_ratios.append(t / p)
            memory_ratios.append(ours["memory"] / peer["memory"])
        t, p, m, q = (statistics.median(column) for column in zip(*rows))
        shown = lambda r: f"{statistics.median(r):.2f} ({min(r):.2f} to {max(r):.2f})"
        print(f"{model:10} {batch:5} {t * 1e3:9.2f} {p * 1e3:9.2f} {shown(time_ratios):>24} {m / 2**20:10.1f} {q / 2**20:7.1f} {shown(memory_ratios):>20}", flush=True)


if __name__ == "__main__":
    main()
