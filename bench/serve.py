#!/usr/bin/env python3
"""The server's own cost: CPU time of `tenon serve` for each request, and latency at a steady rate, for each protocol.

    bench/serve.py [--tenon build/release/bin/tenon] [--rates 1000,4000] [--seconds 5] [--rounds 3] [--model PATH] [--floor PROGRAM]
    bench/serve.py --instructions [--profile FOLDER]
    bench/serve.py --swap MODEL.onnx [--rate 200] [--seconds 10] [--rounds 5]

Client and server share the machine, so latency is indicative; CPU microseconds per request are the server's alone: the median over
rounds (the least, the most), how much of it the kernel took (system time), and how often a thread of the server was woken for it
(of those that live to the end of the round).
The default model does nothing (one node, Identity, on one number): what is measured is the server. --floor: the same requests to
serve_floor (serve_floor.cpp), which only receives and sends, in turns with the server.
--instructions: instructions in user space for each request, by callgrind: what 1200 requests take more than 200 do. Requests run on
the thread that reads them, as quick models' do, and --profile keeps callgrind's files.
--swap: the 99th percentile while versions change (a new version of MODEL.onnx appears every two seconds, is loaded and warmed, takes
over, and the old one is freed) against the steady one, in turns.
--stall: runs in which the machine itself stood still for longer (ms; a virtual machine may) are made again (stillness.py).
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import onnx_bytes as onnx  # noqa: E402
from serve_process import ServeProcess, loadtest  # noqa: E402
from stillness import Stillness  # noqa: E402

PROTOCOLS = (("v2 REST, binary", "v2_rest", "http://{}/v2/models/m", []),
             ("v2 REST, JSON", "v2_rest", "http://{}/v2/models/m", ["--json-tensors"]),
             ("TensorFlow Serving REST", "tfs_rest", "http://{}/v1/models/m", []),
             ("v2 gRPC", "v2_grpc", "grpc://{}/m", []),
             ("TensorFlow Serving gRPC", "tfs_grpc", "grpc://{}/tensorflow/m", []))


class Cost:
    """What a process has used so far, ended threads included: seconds, seconds in the kernel. And how often each of its threads was woken."""

    def __init__(self, pid):
        # The clock of the process counts to the nanosecond; stat counts ticks of 10 ms, good enough for the kernel's share.
        # Its number: ~pid above three bits, of which 2 says that all of the process's time is meant (Linux, posix-timers.h).
        self.seconds = time.clock_gettime(~pid << 3 | 2)
        user, self.kernel_ticks = map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])
        self.ticks = user + self.kernel_ticks
        self.wakes = {}
        for task in Path(f"/proc/{pid}/task").iterdir():
            try:
                born = (task / "stat").read_text().rpartition(")")[2].split()[19]  # numbers of threads come again
                status = (task / "status").read_text()
                self.wakes[task.name, born] = int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])
            except (FileNotFoundError, ProcessLookupError):  # the thread has just ended
                pass

    def since(self, before):
        """Seconds, the kernel's share of them, and wakes of the threads that still live."""
        ticks = self.ticks - before.ticks
        wakes = sum(count - before.wakes.get(thread, 0) for thread, count in self.wakes.items())
        return self.seconds - before.seconds, (self.kernel_ticks - before.kernel_ticks) / max(1, ticks), wakes


class Floor:
    """serve_floor: prints the ports of its two protocols."""

    def __init__(self, program):
        self.process = subprocess.Popen([program], stdout=subprocess.PIPE, text=True)
        self.ports = dict(self.process.stdout.readline().split() for _ in range(2))
        self.pid = self.process.pid

    def address(self, listener):
        return f"127.0.0.1:{self.ports[listener.removeprefix('v2_')]}"

    def stop(self):
        self.process.kill()
        self.process.wait()


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

        def while_swapping():
            versions = [hidden() for _ in range(int(options.seconds // 2))]
            stop.clear()
            changer = threading.Thread(target=change, args=(versions,))
            changer.start()
            result = load(options, url)
            stop.set()
            changer.join()
            return result, sum(there.exists() for _, there in versions)

        ratios, still = [], Stillness(options.stall / 1e3, options.patience)
        print(f"{'round':>5} {'steady p99 ms':>14} {'swapping p99 ms':>16} {'swaps':>6} {'ratio':>6}")
        try:
            load(options, url)
            for round_ in still.rounds(options.rounds):
                steady = still.during(lambda: load(options, url))
                moving, swaps = still.during(while_swapping)
                if steady["errors"] or moving["errors"]:
                    print("errors", steady["errors"], moving["errors"])
                ratios.append(moving["p99_ms"] / steady["p99_ms"])
                print(f"{round_ + 1:5} {steady['p99_ms']:14.2f} {moving['p99_ms']:16.2f} {swaps:6} {ratios[-1]:6.2f}", flush=True)
            print(f"median ratio {statistics.median(ratios):.2f} (goal 1.2)", still)
        finally:
            server.stop()


def empty_model(folder):
    model = folder / "model.onnx"
    model.write_bytes(onnx.model([onnx.node("Identity", ["x"], "y")], [onnx.value("x")], [onnx.value("y")]))
    return model


def instructions(options, folder):
    config = folder / "models.config"
    config.write_text(f'model_config_list {{ config {{ name: "m" base_path: "{options.model or empty_model(folder)}" '
                      "run_here_below_micros: 1000000 } }")
    for name, listener, url, extra in PROTOCOLS:
        if options.protocols and name not in options.protocols.split(";"):
            continue
        counts = []
        for requests in (200, 1200):
            log = folder / "valgrind.txt"
            out = Path(options.profile or folder) / f"callgrind.{listener}{extra[0] if extra else ''}.{requests}"
            with log.open("w") as errors:
                server = ServeProcess(Path(options.tenon).with_name("tenon-server"), "--config", config, "--file-system-poll-wait-seconds", "0",
                                      wrapper=["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"], stderr=errors)
                address = url.format(server.address(listener))
                result = loadtest(options.tenon, address, "--rate", 100, "--seconds", requests / 100, "--connections", 4, *extra)
                server.stop()
            counts.append((result["answered"], int(re.search(r"Collected\s*:\s*(\d+)", log.read_text()).group(1))))
        (few, less), (many, more) = counts
        print(f"{name:26} {(more - less) / (many - few):8.0f} instructions", flush=True)


def own_cost(options, folder):
    model = options.model or empty_model(folder)
    server = ServeProcess(options.tenon, *options.flags.split(), "--model", f"m={model}")
    cases = [(name, server, url.format(server.address(listener)), extra) for name, listener, url, extra in PROTOCOLS
             if not options.protocols or name in options.protocols.split(";")]
    stopping, still = [server], Stillness(options.stall / 1e3, options.patience)
    if options.floor:
        floor = Floor(options.floor)
        stopping.append(floor)
        cases += [(f"floor, {name}", floor, url.format(floor.address(listener)), extra) for name, listener, url, extra in PROTOCOLS
                  if name in ("v2 REST, binary", "v2 gRPC")]
    print(f"{'rate':>5} {'protocol':24} {'answered/s':>10} {'p50 ms':>7} {'p99 ms':>7} {'CPU µs':>7} {'least':>6} {'most':>6} "
          f"{'kernel':>7} {'wakes':>6}   load {os.getloadavg()[0]:.1f}")
    try:
        for options.rate in map(float, options.rates.split(",")):
            found = {case[0]: [] for case in cases}
            for _ in still.rounds(options.rounds):
                for name, process, url, extra in cases:
                    def measured():
                        before = Cost(process.pid)
                        return load(options, url, *extra), Cost(process.pid).since(before)

                    result, (seconds, kernel, wakes) = still.during(measured)
                    n = max(1, result["answered"])
                    if result["errors"]:
                        print(f"{name}: errors {result['errors']}")
                    found[name].append((1e6 * seconds / n, kernel, wakes / n, result["answered"] / result["seconds"], result["p50_ms"],
                                        result["p99_ms"]))
            for name, rows in found.items():
                micros, kernel, wakes, rate, p50, p99 = map(statistics.median, zip(*rows))
                print(f"{options.rate:5.0f} {name:24} {rate:10.0f} {p50:7.2f} {p99:7.2f} {micros:7.1f} {min(r[0] for r in rows):6.1f} "
                      f"{max(r[0] for r in rows):6.1f} {micros * kernel:7.1f} {wakes:6.2f}", flush=True)
            print(still)
    finally:
        for process in stopping:
            process.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenon", default=str(ROOT / "build/release/bin/tenon"))
    parser.add_argument("--model")
    parser.add_argument("--rate", type=float, default=1000, help="with --swap")
    parser.add_argument("--rates", default="4000")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--protocols", help="which, with ; between")
    parser.add_argument("--flags", default="", help="more for the server")
    parser.add_argument("--floor")
    parser.add_argument("--swap")
    parser.add_argument("--patience", type=float, default=0, help="seconds after which no new round begins")
    parser.add_argument("--stall", type=float, default=50, help="ms; 0: whatever the machine does")
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--profile")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.swap:
        return swap(options)
    with tempfile.TemporaryDirectory() as folder:
        (instructions if options.instructions else own_cost)(options, Path(folder))


if __name__ == "__main__":
    main()
