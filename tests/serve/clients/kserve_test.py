#!/usr/bin/env python3
"""KServe's own client (PyPI: kserve), REST and gRPC, against `tenon serve`: kserve_test.py TENON MODELS_FOLDER"""

import asyncio
import sys
from pathlib import Path

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from serve_process import ServeProcess  # noqa: E402


async def check(rest, grpc):
    x = InferInput("x", [3], "FP32")
    x.set_data_from_numpy(np.array([1, 2, 5], np.float32), binary_data=False)
    binary = InferInput("x", [3], "FP32")
    binary.set_data_from_numpy(np.array([1, 2, 5], np.float32), binary_data=True)
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_ready(rest) and await client.is_server_live(rest)
    assert await client.is_model_ready(rest, "m")
    for value in (x, binary):
        answer = await client.infer(rest, InferRequest(model_name="m", infer_inputs=[value]), model_name="m")
        np.testing.assert_array_equal(answer.outputs[0].as_numpy(), np.array([3.5, 4, 5.5], np.float32))
    client = InferenceGRPCClient(grpc)
    assert await client.is_server_ready() and await client.is_server_live() and await client.is_model_ready("m")
    answer = await client.infer(InferRequest(model_name="m", infer_inputs=[binary]))
    np.testing.assert_array_equal(answer.outputs[0].as_numpy(), np.array([3.5, 4, 5.5], np.float32))
    await client.close()


def main():
    with ServeProcess(sys.argv[1], "--model", f"m={sys.argv[2]}/half_plus_two") as server:
        asyncio.run(check(f"http://{server.address('v2_rest')}", server.address("v2_grpc")))
    print("kserve: ok")


main()
