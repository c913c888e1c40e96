#!/usr/bin/env python3
"""The server's own cost: CPU time of `tenon serve` for each request, and latency at a steady rate, for each protocol.

    bench/serve.py [--tenon build/release/bin/tenon] [--rate 1000] [--seconds 5] [--model PATH]

Client and server share the machine, so latency is indicative; CPU microseconds per request are the server's alone.
The default model is y = x / 2 + 2 on one number: what is measured is the server.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOCOLS = (("v2 REST, binary", "Open Inference (v2), REST", "{}/v2/models/m", []),
             ("v2 REST, JSON", "Open Inference (v2), REST", "{}/v2/models/m", ["--json-tensors"]),
             ("TensorFlow Serving REST", "TensorFlow Serving, REST", "{}/v1/models/m", []),
             ("v2 gRPC", "Open Inference (v2), gRPC", "grpc://{}/m", []),
             ("TensorFlow Serving gRPC", "TensorFlow Serving, gRPC", "grpc://{}/tensorflow/m", []))


def cpu_seconds(pid):
    """User and system time of all threads, to the nanosecond (/proc/PID/stat counts ticks of 10 ms by sampling)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:  # the thread has just ended
            pass
    return total * 1e-9


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenon", default=str(ROOT / "build/release/bin/tenon"))
    parser.add_argument("--model", default=str(ROOT / "tests/serve/goldens/models/half_plus_two"))
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    server = subprocess.Popen([options.tenon, "serve", "--model", f"m={options.model}", "--free-ports", "--address", "127.0.0.1"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    where = {}
    for line in server.stdout:
        if line.startswith("ready"):
            break
        if line.startswith("  "):
            name, address = line.strip().rsplit("  ", 1)
            where[name.strip()] = address.strip()
    print(f"{'protocol':26} {'answered/s':>10} {'p50 ms':>8} {'p99 ms':>8} {'CPU µs/request':>15}")
    try:
        for name, listener, url, extra in PROTOCOLS:
            with tempfile.NamedTemporaryFile(suffix=".json") as file:
                before = cpu_seconds(server.pid)
                subprocess.run([options.tenon, "loadtest", url.format(where[listener]), "--rate", str(options.rate), "--seconds",
                                str(options.seconds), "--warm-up", "0", "--connections", str(options.connections), "--json",
                                file.name, *extra], check=True, stdout=subprocess.DEVNULL)
                used = cpu_seconds(server.pid) - before
                result = json.loads(Path(file.name).read_text())
            print(f"{name:26} {result['answered'] / result['seconds']:10.0f} {result['p50_ms']:8.2f} {result['p99_ms']:8.2f} "
                  f"{1e6 * used / max(1, result['answered']):15.1f}", flush=True)
    finally:
        server.terminate()
        server.wait(timeout=30)


if __name__ == "__main__":
    main()
