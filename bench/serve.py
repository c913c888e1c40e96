#!/usr/bin/env python3
"""The server's own cost: CPU time of `tenon serve` for each request, and latency at a steady rate, for each protocol.

    bench/serve.py [--tenon build/release/bin/tenon] [--rate 1000] [--seconds 5] [--model PATH]
    bench/serve.py --swap MODEL.onnx [--rate 200] [--seconds 10] [--rounds 5]

Client and server share the machine, so latency is indicative; CPU microseconds per request are the server's alone.
The default model is y = x / 2 + 2 on one number: what is measured is the server.
--swap: the 99th percentile while versions change (a new version of MODEL.onnx appears every two seconds, is loaded and warmed, takes
over, and the old one is freed) against the steady one, in turns.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from serve_process import ServeProcess, loadtest  # noqa: E402

PROTOCOLS = (("v2 REST, binary", "v2_rest", "http://{}/v2/models/m", []),
             ("v2 REST, JSON", "v2_rest", "http://{}/v2/models/m", ["--json-tensors"]),
             ("TensorFlow Serving REST", "tfs_rest", "http://{}/v1/models/m", []),
             ("v2 gRPC", "v2_grpc", "grpc://{}/m", []),
             ("TensorFlow Serving gRPC", "tfs_grpc", "grpc://{}/tensorflow/m", []))


def cpu_seconds(pid):
    """User and system time of all threads, to the nanosecond (/proc/PID/stat counts ticks of 10 ms by sampling)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:  # the thread has just ended
            pass
    return total * 1e-9


def load(options, url, *extra):
    return loadtest(options.tenon, url, "--rate", options.rate, "--seconds", options.seconds, "--connections", options.connections, *extra)


def swap(options):
    with tempfile.TemporaryDirectory() as name:
        base, number = Path(name) / "m", 0

        def hidden():
            """The next version, complete but not yet to be seen."""
            nonlocal number
            number += 1
            subprocess.run([options.tenon, "publish", options.swap, str(Path(name) / "ahead"), "--version", str(number)], check=True,
                           stdout=subprocess.DEVNULL)
            return Path(name) / "ahead" / str(number), base / str(number)

        base.mkdir()
        ahead, there = hidden()
        ahead.rename(there)
        server = ServeProcess(options.tenon, "--model", f"m={base}")
        url = f"grpc://{server.address('v2_grpc')}/m"
        stop = threading.Event()

        def change(versions):
            for ahead, there in versions:
                if stop.wait(2):
                    return
                ahead.rename(there)

        ratios = []
        print(f"{'round':>5} {'steady p99 ms':>14} {'swapping p99 ms':>16} {'swaps':>6} {'ratio':>6}")
        try:
            load(options, url)
            for round_ in range(options.rounds):
                steady = load(options, url)
                versions = [hidden() for _ in range(int(options.seconds // 2))]
                stop.clear()
                changer = threading.Thread(target=change, args=(versions,))
                changer.start()
                moving = load(options, url)
                stop.set()
                changer.join()
                if steady["errors"] or moving["errors"]:
                    print("errors", steady["errors"], moving["errors"])
                swaps = sum(there.exists() for _, there in versions)
                ratios.append(moving["p99_ms"] / steady["p99_ms"])
                print(f"{round_ + 1:5} {steady['p99_ms']:14.2f} {moving['p99_ms']:16.2f} {swaps:6} {ratios[-1]:6.2f}", flush=True)
            print(f"median ratio {statistics.median(ratios):.2f} (goal 1.2)")
        finally:
            server.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenon", default=str(ROOT / "build/release/bin/tenon"))
    parser.add_argument("--model", default=str(ROOT / "tests/serve/goldens/models/half_plus_two"))
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--swap")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.swap:
        return swap(options)
    print(f"{'protocol':26} {'answered/s':>10} {'p50 ms':>8} {'p99 ms':>8} {'CPU µs/request':>15}")
    with ServeProcess(options.tenon, "--model", f"m={options.model}") as server:
        for name, listener, url, extra in PROTOCOLS:
            before = cpu_seconds(server.pid)
            result = load(options, url.format(server.address(listener)), *extra)
            used = cpu_seconds(server.pid) - before
            print(f"{name:26} {result['answered'] / result['seconds']:10.0f} {result['p50_ms']:8.2f} {result['p99_ms']:8.2f} "
                  f"{1e6 * used / max(1, result['answered']):15.1f}", flush=True)


if __name__ == "__main__":
    main()
