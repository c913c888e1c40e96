#!/usr/bin/env python3
"""Requests per second at a bounded 99th percentile: `tenon serve` (alone and with batching) against ONNX Runtime behind the
simplest good Python server (peers/onnxruntime_server.py).

    bench/serve_compare.py --python VENV/bin/python [--tenon build/release/bin/tenon] [--models mlp,resnet50,distilbert] [--seconds 4]
    bench/serve_compare.py --python VENV/bin/python --models resnet50 --rates 8,12,16 [--rounds 6] [--protocols gRPC]
    bench/serve_compare.py … --triton OTHER_VENV/bin/python      Triton as well (peers/triton_server.py), batches of 16

First a peer must give the answers that Tenon gave (its request log, replayed). VENV: onnx, onnxruntime, fastapi, uvicorn[standard], numpy, tritonclient[grpc]. For each model, server and protocol, `tenon
loadtest` (open loop: latency from the intended time) looks for the highest rate whose 99th percentile is within 10 and 50 ms, with
no error: rates rise by steps of 1.6, 1.25 and 1.1 until one fails three times. Servers run one after another, two at a time never.
--rates: all servers in turns at each rate, who is first changing: medians over rounds of the percentiles, the answers in a second (at a
rate that is too high, what a server can do) and the CPU time of a request. Whoever does not run waits without work.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from serve import Cost  # noqa: E402
from serve_process import ServeProcess, loadtest  # noqa: E402
from stillness import Stillness  # noqa: E402


class Tenon(ServeProcess):
    def __init__(self, *command):
        super().__init__(*command)
        self.rest, self.grpc = self.ports["v2_rest"], self.ports["v2_grpc"]


class Peer:
    """peers/onnxruntime_server.py or triton_server.py, which print "grpc PORT" and "rest PORT"."""

    def __init__(self, *command):
        path = f"{Path(command[0]).parent}:{os.environ['PATH']}"  # Triton looks for its Python there
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, "PATH": path})
        for line in self.process.stdout:
            name, _, port = line.partition(" ")
            setattr(self, name, int(port))
            if name == "rest":
                break

    @property
    def pid(self):
        return self.process.pid

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=60)


def cpu_seconds(pid):
    """Of a process and all that it has started, as Triton starts others."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            pass
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return sum(Cost(one).seconds for one in found)


def measure(o, url, rate, seconds, *more, warm_up=1):
    return loadtest(o.tenon, url, "--rate", f"{rate:.3f}", "--seconds", seconds, "--connections",
                    64 if url.startswith("http") else 8, "--extent", 224, *more, warm_up=warm_up)


def url_of(server, protocol):
    return f"grpc://127.0.0.1:{server.grpc}/m" if protocol == "gRPC" else f"http://127.0.0.1:{server.rest}/v2/models/m"


def check_agreement(o, folder, model, path, kind, *command):
    """What Tenon answered, asked of the peer again."""
    log = Path(folder) / model
    with ServeProcess(o.tenon, "--model", f"m={path}", "--request-log", log, "--request-log-rate", 1) as server:
        measure(o, f"grpc://{server.address('v2_grpc')}/m", 5, 1, warm_up=0)
    peer = kind(*command)
    try:
        subprocess.run([o.tenon, "loadtest", f"grpc://127.0.0.1:{peer.grpc}/m", "--replay", f"{log}.000001.jsonl", "--relative-tolerance", "1e-3",
                        "--absolute-tolerance", "1e-3"], check=True)
    finally:
        peer.stop()


def in_turns(o, model, kinds):
    """Every server at each rate, with the same arrivals."""
    servers, still = {name: kind(*command) for name, (kind, *command) in kinds}, Stillness(o.stall / 1e3, o.patience)
    try:
        for protocol in o.protocols.split(","):
            for server in servers.values():
                measure(o, url_of(server, protocol), 2, 2)
            for rate in map(float, o.rates.split(",")):
                found = {name: [] for name in servers}
                for round_ in still.rounds(o.rounds):
                    for name, server in list(servers.items())[:: 1 if round_ % 2 == 0 else -1]:
                        def measured():
                            before = cpu_seconds(server.pid)
                            result = measure(o, url_of(server, protocol), rate, o.seconds, "--seed", round_ + 1, warm_up=0)
                            return result, 1e6 * (cpu_seconds(server.pid) - before) / max(1, result["answered"])

                        result, micros = still.during(measured)
                        found[name].append((result["p50_ms"], result["p99_ms"], result["answered"] / result["seconds"], micros / 1e3))
                        if result["errors"]:
                            print(f"{name}: errors {result['errors']}")
                for name, rows in found.items():
                    p50, p99, done, cpu = (f"{statistics.median(c):.4g} ({min(c):.4g} to {max(c):.4g})" for c in zip(*rows))
                    print(f"{model:9} {name:24} {protocol:8} {rate:6g}/s  p50 {p50} ms, p99 {p99} ms, {done} answers/s, CPU {cpu} ms",
                          flush=True)
            print(still)
    finally:
        for server in servers.values():
            server.stop()


def highest_rate(o, url, bound, start):
    """Requests per second, and the percentile there; 0 if even a tenth of the first rate is too much."""
    def good(rate):
        for _ in range(o.tries):  # other work on the machine disturbs: one good run shows that it can be done
            result = measure(o, url, rate, max(o.seconds, 40 / rate))
            if not result["errors"] and result["p99_ms"] <= bound and result["answered"]:
                return result["p99_ms"]
        return None

    rate, best = start, (0, 0)
    while best == (0, 0) and rate > start / 10:
        p99 = good(rate)
        if p99 is None:
            rate /= 1.6
        else:
            best = (rate, p99)
    if best == (0, 0):
        return best
    for step in (1.6, 1.25, 1.1):
        while (p99 := good(rate * step)) is not None:
            rate *= step
            best = (rate, p99)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenon", default=str(ROOT / "build/release/bin/tenon"))
    parser.add_argument("--python", required=True)
    parser.add_argument("--triton", help="a Python with nvidia-pytriton and onnxruntime")
    parser.add_argument("--models", default="mlp,resnet50")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--bounds", default="10,50", help="of the 99th percentile, ms")
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--servers", default="tenon;tenon, batches of 16;ONNX Runtime in Python", help="which, with ; between")
    parser.add_argument("--protocols", default="gRPC,REST")
    parser.add_argument("--rates", help="in turns at these requests a second")
    parser.add_argument("--rounds", type=int, default=6, help="with --rates")
    parser.add_argument("--patience", type=float, default=0, help="seconds after which no new round begins")
    parser.add_argument("--stall", type=float, default=50, help="with --rates: runs in which the machine stood still for so long (ms) are made again")
    parser.add_argument("--start", type=float, default=0, help="the first rate that is tried")
    o = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([o.python, str(ROOT / "bench/serve_models.py"), folder, *o.models.split(",")], check=True)
        if not o.rates:
            print(f"{'model':9} {'server':24} {'protocol':8} " + " ".join(f"{'req/s, p99<=' + b + ' ms':>20}" for b in o.bounds.split(",")))
        for model in o.models.split(","):
            path = f"{folder}/{model}.onnx"
            tenon = [Tenon, o.tenon, "--model", f"m={path}"]
            every = (("tenon", tenon), ("tenon, batches of 16", [*tenon, "--max-batch-size", "16", "--batch-timeout-micros", "0"]),
                     ("ONNX Runtime in Python", [Peer, o.python, str(ROOT / "bench/peers/onnxruntime_server.py"), "--model", f"m={path}"]))
            kinds = [kind for kind in every if kind[0] in o.servers.split(";")]
            if o.triton:
                kinds.append(("Triton, batches of 16", [Peer, o.triton, str(ROOT / "bench/peers/triton_server.py"), "--model", f"m={path}"]))
            for name, (kind, *command) in kinds:
                if kind is Peer:
                    check_agreement(o, folder, model, path, kind, *command)
            if o.rates:
                in_turns(o, model, kinds)
                continue
            for name, (kind, *command) in kinds:
                server = kind(*command)
                try:
                    for protocol in o.protocols.split(","):
                        url = url_of(server, protocol)
                        measure(o, url, 5, 1)
                        start = o.start or {"mlp": 400, "resnet50": 4}.get(model, 50)
                        found = []
                        for bound in map(float, o.bounds.split(",")):
                            found.append(highest_rate(o, url, bound, start))
                            start = max(start, found[-1][0])
                        print(f"{model:9} {name:24} {protocol:8} " + " ".join(f"{r:12.0f} ({p:4.1f})" for r, p in found), flush=True)
                finally:
                    server.stop()


if __name__ == "__main__":
    main()
