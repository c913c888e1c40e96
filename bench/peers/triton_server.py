#!/usr/bin/env python3
"""Triton as a package of PyPI carries it (nvidia-pytriton), with ONNX Runtime in the Python function that it calls.

    bench/peers/triton_server.py --model m=model.onnx [--threads 1] [--batch 16]      prints "grpc PORT" and "rest PORT"

--threads: of each run; --batch: Triton joins requests up to so many rows, without waiting. A program for comparisons only: needs
nvidia-pytriton and onnxruntime.
"""

import argparse
import os
import signal
import socket
import threading

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Triton writes its log there
    name, _, path = options.model.partition("=")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    outputs = [o.name for o in session.get_outputs()]

    @batch
    def infer(**inputs):
        return session.run(outputs, inputs)

    def tensors(specs):  # without the batch's axis
        return [Tensor(name=s.name, dtype=TYPES[s.type], shape=tuple(d if isinstance(d, int) else -1 for d in s.shape[1:])) for s in specs]

    ports = {"grpc": free_port(), "rest": free_port()}
    config = TritonConfig(http_address="127.0.0.1", grpc_address="127.0.0.1", http_port=ports["rest"], grpc_port=ports["grpc"],
                          metrics_port=free_port(), log_verbose=0)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with Triton(config=config) as triton:
        triton.bind(model_name=name, infer_func=infer, inputs=tensors(session.get_inputs()), outputs=tensors(session.get_outputs()),
                    config=ModelConfig(max_batch_size=options.batch, batcher=DynamicBatcher(max_queue_delay_microseconds=0)))
        triton.run()
        for kind, port in ports.items():
            print(kind, port, file=told, flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
