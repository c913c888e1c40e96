#!/usr/bin/env python3
"""Triton's perf_analyzer, unmodified, against `tenon serve`: Open Inference Protocol over HTTP (binary and JSON tensors) and gRPC
(calls and a stream), and TensorFlow Serving's gRPC. It compares every answer with what it was told to expect, and the server must
have counted what it sent.

    perf_analyzer_test.py TENON MODELS_FOLDER
"""

import json
import re
import struct
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
import onnx_bytes as onnx  # noqa: E402
from serve_process import ServeProcess  # noqa: E402

REQUESTS = 40
RIGHT = {"data": [{"x": [1.0, 2.0, 5.0, -8.0]}], "validation_data": [{"y": [0.5, 1.0, 2.5, -4.0]}]}


def answered(server, model, api):
    page = urllib.request.urlopen(f"http://{server.address('v2_rest')}/metrics").read().decode()
    counts = re.findall(rf'^tenon_requests_total{{model="{model}",version="\d+",api="{api}",code="(\w+)"}} (\d+)$', page, re.M)
    assert all(code == "OK" for code, _ in counts), counts
    return sum(int(n) for _, n in counts)


def analyze(server, model, api, *arguments):
    """Its report, after a look at what the server counted."""
    before = answered(server, model, api)
    run = subprocess.run(["perf_analyzer", "-m", model, "-u", server.address(api), "--request-count", str(REQUESTS),
                          *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    assert run.returncode == 0, run.stdout
    reported = int(re.search(r"Request count: (\d+)", run.stdout).group(1))
    sent = answered(server, model, api) - before
    assert reported == sent == REQUESTS, f"{api}: it reported {reported} requests, {sent} were answered\n{run.stdout}"
    return run.stdout


def main(tenon, models):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, wrong = folder / "data.json", folder / "wrong.json"
        data.write_text(json.dumps(RIGHT))
        wrong.write_text(json.dumps(RIGHT).replace("2.5", "2.75"))
        model = folder / "half.onnx"  # y = x / 2, [N, 4]
        model.write_bytes(onnx.model([onnx.node("Mul", ["x", "half"], "y")], [onnx.value("x", ["N", 4])], [onnx.value("y", ["N", 4])],
                                     [onnx.tensor("half", 1, [], struct.pack("<f", 0.5))]))
        config = folder / "models.config"
        config.write_text(f"""model_config_list {{
            config {{ name: "half" base_path: "{model}" batching_parameters {{ max_batch_size {{ value: 8 }} }} }}
            config {{ name: "half_plus_two" base_path: "{models}/half_plus_two" }} }}""")
        with ServeProcess(tenon, "--config", config, "--enable_batching") as server:
            for api, *more in (("v2_rest", "-i", "http"),
                               ("v2_rest", "-i", "http", "--input-tensor-format", "json", "--output-tensor-format", "json"),
                               ("v2_grpc", "-i", "grpc"),
                               ("v2_grpc", "-i", "grpc", "--async", "--concurrency-range", 4),
                               ("v2_grpc", "-i", "grpc", "--async", "--streaming")):
                report = analyze(server, "half", api, "--input-data", data, *more)
                # From the server's statistics, which it first asks for when its requests are under way: some may be missing.
                counted = re.search(r"Server: *\n *Inference count: (\d+)\n", report)
                assert counted and 0 < int(counted.group(1)) <= REQUESTS, report
            analyze(server, "half", "v2_grpc", "-i", "grpc", "-b", 4)  # batches of its own, which dims leave out
            for api, *more in (("v2_rest", "-i", "http"), ("v2_grpc", "-i", "grpc"), ("tfs_grpc", "-i", "grpc", "--service-kind", "tfserving")):
                analyze(server, "half_plus_two", api, "--shape", "x:3", *more)
            # It does compare: a wrong expectation fails.
            run = subprocess.run(["perf_analyzer", "-m", "half", "-u", server.address("v2_rest"), "--request-count", "5",
                                  "--input-data", wrong], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
            assert run.returncode != 0 and "Output doesn't match expected output" in run.stdout, run.stdout
    print("ok")


if __name__ == "__main__":
    main(*sys.argv[1:])
