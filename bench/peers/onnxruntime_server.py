#!/usr/bin/env python3
"""The simplest good Python server of an ONNX file: ONNX Runtime behind FastAPI and uvicorn (REST) and grpcio (gRPC).

    bench/peers/onnxruntime_server.py --model m=model.onnx --threads 1      prints "rest PORT" and "grpc PORT"

It speaks what `tenon loadtest` sends: Open Inference Protocol v2, with the binary tensor extension on REST. No batching: that is
what such a server has. A program for comparisons only: needs onnxruntime, fastapi, uvicorn, numpy and tritonclient[grpc].
"""

import argparse
import json
import socket
import time
from concurrent import futures

import grpc
import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from tritonclient.grpc import service_pb2, service_pb2_grpc

TYPES = {"tensor(float)": ("FP32", np.float32), "tensor(double)": ("FP64", np.float64), "tensor(int64)": ("INT64", np.int64)}


class Model:
    def __init__(self, path, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = [(i.name, *TYPES[i.type], [d if isinstance(d, int) else -1 for d in i.shape]) for i in self.session.get_inputs()]
        self.outputs = [(o.name, *TYPES[o.type], [d if isinstance(d, int) else -1 for d in o.shape]) for o in self.session.get_outputs()]

        feed = {n: np.zeros([d if d > 0 else 1 for d in shape], dtype) for n, _, dtype, shape in self.inputs}
        for _ in range(2):
            begin = time.perf_counter()
            self.run(feed)
            self.slow = time.perf_counter() - begin > 2e-3  # then handing it to a thread pays, as several can run at once

    def run(self, feed):
        return self.session.run(None, feed)


def rest(models):
    app = FastAPI()

    @app.get("/v2/models/{name}")
    def metadata(name: str):
        def described(specs):
            return [{"name": n, "datatype": t, "shape": s} for n, t, _, s in specs]
        return {"name": name, "inputs": described(models[name].inputs), "outputs": described(models[name].outputs)}

    @app.post("/v2/models/{name}/infer")
    async def infer(name: str, request: Request):
        model, body = models[name], await request.body()
        head = int(request.headers.get("inference-header-content-length", len(body)))
        asked, at, feed = json.loads(body[:head]), head, {}
        kinds = {n: dtype for n, _, dtype, _ in model.inputs}
        for tensor in asked["inputs"]:
            if "data" in tensor:
                feed[tensor["name"]] = np.array(tensor["data"], kinds[tensor["name"]]).reshape(tensor["shape"])
            else:
                size = tensor["parameters"]["binary_data_size"]
                feed[tensor["name"]] = np.frombuffer(body, kinds[tensor["name"]], size // np.dtype(kinds[tensor["name"]]).itemsize,
                                                     at).reshape(tensor["shape"])
                at += size
        results = await run_in_threadpool(model.run, feed) if model.slow else model.run(feed)
        if head == len(body):
            return {"model_name": name, "outputs": [{"name": n, "datatype": t, "shape": y.shape, "data": y.ravel().tolist()}
                                                    for (n, t, _, _), y in zip(model.outputs, results)]}
        described = json.dumps({"model_name": name, "outputs": [
            {"name": n, "datatype": t, "shape": y.shape, "parameters": {"binary_data_size": y.nbytes}}
            for (n, t, _, _), y in zip(model.outputs, results)]}).encode()
        return Response(described + b"".join(y.tobytes() for y in results), media_type="application/octet-stream",
                        headers={"Inference-Header-Content-Length": str(len(described))})

    return app


class Service(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, models):
        self.models = models

    def ModelMetadata(self, request, context):
        answer = service_pb2.ModelMetadataResponse(name=request.name)
        for n, t, _, s in self.models[request.name].inputs:
            answer.inputs.add(name=n, datatype=t, shape=s)
        return answer

    def ModelInfer(self, request, context):
        model = self.models[request.model_name]
        kinds = {n: dtype for n, _, dtype, _ in model.inputs}
        feed = {t.name: np.frombuffer(raw, kinds[t.name]).reshape(list(t.shape))
                for t, raw in zip(request.inputs, request.raw_input_contents)}
        answer = service_pb2.ModelInferResponse(model_name=request.model_name)
        for (n, t, _, _), y in zip(model.outputs, model.run(feed)):
            answer.outputs.add(name=n, datatype=t, shape=y.shape)
            answer.raw_output_contents.append(y.tobytes())
        return answer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, help="NAME=FILE.onnx")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    options = parser.parse_args()
    models = {name: Model(path, options.threads) for name, path in (m.split("=", 1) for m in options.model)}
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1),
                                                                 ("grpc.max_send_message_length", -1)])
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Service(models), server)
    print("grpc", server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print("rest", listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(rest(models), log_level="error", access_log=False)).run([listener])


if __name__ == "__main__":
    main()
