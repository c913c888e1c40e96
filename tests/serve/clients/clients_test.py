#!/usr/bin/env python3
"""Unmodified clients against `tenon serve`: tritonclient over HTTP (binary and JSON tensors) and gRPC, ovmsclient (which
speaks TensorFlow Serving's protocols, REST and gRPC), requests and curl.

    clients_test.py TENON MODELS_FOLDER                  runs the tests
    clients_test.py TENON MODELS_FOLDER --record FILE    also writes what went over the wire, which replay_test.cpp replays
"""

import base64
import gzip
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import requests
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from ovmsclient import make_grpc_client, make_http_client
from tritonclient.utils import InferenceServerException

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from serve_process import ServeProcess  # noqa: E402

TRANSCRIPT = []


class GrpcTap(grpc.GenericRpcHandler):
    """Between a client and the server: passes each call on and notes its bytes."""

    def __init__(self, target):
        self.channel = grpc.insecure_channel(target)

    def service(self, details):
        method = details.method

        def call(request, context):
            try:
                answer = self.channel.unary_unary(method)(request, timeout=30)
                TRANSCRIPT.append({"grpc": method, "request": encoded(request), "answer": encoded(answer)})
                return answer
            except grpc.RpcError as error:
                TRANSCRIPT.append({"grpc": method, "request": encoded(request), "code": error.code().name})
                context.abort(error.code(), error.details())

        return grpc.unary_unary_rpc_method_handler(call)

    @staticmethod
    def start(target):
        server = grpc.server(futures.ThreadPoolExecutor(4))
        server.add_generic_rpc_handlers((GrpcTap(target),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        return server, f"127.0.0.1:{port}"


class HttpTap:
    """The same for HTTP: one connection at a time is enough for these clients."""

    def __init__(self, port, name):
        self.target, self.name = ("127.0.0.1", port), name
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    @staticmethod
    def message(stream):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = stream.readline()
            if not line:
                return None, None
            head += line
        length = re.search(rb"(?im)^content-length: *(\d+)", head)
        body = stream.read(int(length.group(1))) if length else b""
        return head, body

    def serve(self, client):
        with client, socket.create_connection(self.target) as server:
            from_client, from_server = client.makefile("rb"), server.makefile("rb")
            while True:
                head, body = self.message(from_client)
                if head is None:
                    return
                server.sendall(head + body)
                answer, content = self.message(from_server)
                if answer is None:
                    return
                client.sendall(answer + content)
                TRANSCRIPT.append({"http": self.name, "request": encoded(head + body),
                                   "status": int(answer.split()[1]), "answer": encoded(content)})


def encoded(data):
    return base64.b64encode(data).decode()


def start_server(path, config, *flags):
    with open(path, "w") as file:
        file.write(f"model_config_list {{ {config} }}")
    return ServeProcess(ARGUMENTS[0], "--model_config_file=" + path, *flags)


class Pipelines(unittest.TestCase):
    def test_tritons_clients_see_an_ensemble(self):
        half = f'base_path: "{ARGUMENTS[1]}/half_plus_two" model_version_policy {{ all {{}} }}'
        config = f"""
          config {{ name: "first" {half} traffic {{ split {{ version: 123 weight: 1 }} }} }}
          config {{ name: "second" {half} }}
          config {{ name: "both" ensemble_scheduling {{
            step {{ model_name: "first" model_version: -1
                    input_map {{ key: "x" value: "raw" }} output_map {{ key: "y" value: "mid" }} }}
            step {{ model_name: "second" model_version: 124
                    input_map {{ key: "x" value: "mid" }} output_map {{ key: "y" value: "done" }} }} }} }}"""
        server = start_server("/tmp/tenon-clients-%d.pipeline" % threading.get_native_id(), config)
        ports = server.ports
        try:
            x = np.array([1, 2, 5], np.float32)
            for module, port in ((triton_http, ports["v2_rest"]), (triton_grpc, ports["v2_grpc"])):
                client = module.InferenceServerClient(f"127.0.0.1:{port}")
                given = module.InferInput("raw", [3], "FP32")
                given.set_data_from_numpy(x)
                answer = client.infer("both", [given]).as_numpy("done")
                np.testing.assert_array_equal(answer, (x / 2 + 2) / 2 + 3)
                client.close()
            client = triton_grpc.InferenceServerClient(f"127.0.0.1:{ports['v2_grpc']}")
            config = client.get_model_config("both").config
            self.assertEqual(config.platform, "ensemble")
            steps = config.ensemble_scheduling.step
            self.assertEqual([(s.model_name, s.model_version) for s in steps], [("first", -1), ("second", 124)])
            self.assertEqual(dict(steps[1].input_map), {"x": "mid"})
            self.assertEqual(dict(steps[1].output_map), {"y": "done"})
            client.close()
        finally:
            server.stop()


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        models = ARGUMENTS[1]
        config = "\n".join(
            f'config {{ name: "{name}" base_path: "{models}/{name}" model_version_policy {{ all {{}} }} {labels} }}'
            for name, labels in (("half_plus_two", 'version_labels { key: "stable" value: 123 }'), ("echo", "")))
        cls.config = "/tmp/tenon-clients-%d.config" % threading.get_native_id()
        cls.server = start_server(cls.config, config)
        cls.try_line, cls.ports = cls.server.try_line, cls.server.ports
        ports = cls.ports
        cls.tfs_tap, cls.v2_tap = HttpTap(ports["tfs_rest"], "tfs"), HttpTap(ports["v2_rest"], "v2")
        cls.grpc_tap, cls.grpc = GrpcTap.start(f"127.0.0.1:{ports['v2_grpc']}")

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        assert code == 0, f"tenon serve ended with {code}"

    def test_triton_http(self):
        client = triton_http.InferenceServerClient(self.v2_tap.address)
        self.assertTrue(client.is_server_live() and client.is_server_ready() and client.is_model_ready("half_plus_two"))
        self.assertEqual(client.get_server_metadata()["name"], "tenon")
        self.assertEqual(client.get_model_metadata("half_plus_two")["versions"], ["123", "124"])
        self.assertEqual(client.get_model_config("half_plus_two", "123")["name"], "half_plus_two")
        x = np.array([1, 2, 5], np.float32)
        for binary in (True, False):
            given = triton_http.InferInput("x", [3], "FP32")
            given.set_data_from_numpy(x, binary_data=binary)
            wanted = triton_http.InferRequestedOutput("y", binary_data=binary)
            result = client.infer("half_plus_two", [given], model_version="123", outputs=[wanted], request_id="7")
            np.testing.assert_array_equal(result.as_numpy("y"), x / 2 + 2)
            self.assertEqual(result.get_response()["id"], "7")
        given.set_data_from_numpy(np.arange(5000, dtype=np.float32)[:3])
        for algorithm in ("gzip", "deflate"):
            result = client.infer("half_plus_two", [given], request_compression_algorithm=algorithm,
                                  response_compression_algorithm=algorithm)
            np.testing.assert_array_equal(result.as_numpy("y"), np.arange(3) / 2 + 3)
        with self.assertRaises(InferenceServerException):
            client.infer("nope", [given])
        self.assertGreater(client.get_inference_statistics("half_plus_two")["model_stats"][0]["execution_count"], 0)
        self.assertEqual(len(client.get_model_repository_index()), 3)
        client.close()

    echo = {"text": np.array([["a", "bc"], ["", "é"]], dtype=object), "i64": np.array([[1, -2], [3, 2**60]], np.int64),
            "u8": np.array([[0, 255], [1, 2]], np.uint8), "f16": np.array([[0.5, -1], [65504, 0]], np.float16),
            "flag": np.array([[True, False], [False, True]])}
    types = {"text": "BYTES", "i64": "INT64", "u8": "UINT8", "f16": "FP16", "flag": "BOOL"}

    def check_echo(self, module, client):
        inputs = []
        for name, value in self.echo.items():
            inputs.append(module.InferInput(name, list(value.shape), self.types[name]))
            inputs[-1].set_data_from_numpy(value)
        result = client.infer("echo", inputs)
        for name, value in self.echo.items():
            got = result.as_numpy(name + "_out")
            if name == "text":
                got = np.vectorize(lambda b: b.decode())(got)
            np.testing.assert_array_equal(got, value)

    def test_triton_every_type(self):
        self.check_echo(triton_http, triton_http.InferenceServerClient(self.v2_tap.address))
        self.check_echo(triton_grpc, triton_grpc.InferenceServerClient(self.grpc))

    def test_triton_grpc(self):
        client = triton_grpc.InferenceServerClient(self.grpc)
        self.assertTrue(client.is_server_live() and client.is_server_ready() and client.is_model_ready("half_plus_two"))
        self.assertEqual(client.get_server_metadata().name, "tenon")
        self.assertEqual(list(client.get_model_metadata("half_plus_two").versions), ["123", "124"])
        config = client.get_model_config("half_plus_two").config
        self.assertEqual((config.input[0].name, config.backend), ("x", "tenon"))
        x = np.array([1, 2, 5], np.float32)
        given = triton_grpc.InferInput("x", [3], "FP32")
        given.set_data_from_numpy(x)
        result = client.infer("half_plus_two", [given], model_version="123", request_id="9")
        np.testing.assert_array_equal(result.as_numpy("y"), x / 2 + 2)
        self.assertEqual(result.get_response().id, "9")
        self.assertGreater(client.get_inference_statistics("half_plus_two", "123").model_stats[0].inference_count, 0)
        self.assertEqual(len(client.get_model_repository_index().models), 3)
        with self.assertRaisesRegex(InferenceServerException, "NOT_FOUND"):
            client.infer("nope", [given])
        client.close()

    def test_triton_grpc_stream(self):
        client = triton_grpc.InferenceServerClient(f"127.0.0.1:{self.ports['v2_grpc']}")
        answers, arrived = [], threading.Semaphore(0)

        def callback(result, error):
            answers.append((result, error))
            arrived.release()

        client.start_stream(callback)
        for i in range(20):
            given = triton_grpc.InferInput("x", [1], "FP32")
            given.set_data_from_numpy(np.array([i], np.float32))
            client.async_stream_infer("half_plus_two" if i != 10 else "nope", [given], model_version="123" if i != 10 else "")
        for _ in range(20):
            self.assertTrue(arrived.acquire(timeout=20))
        client.stop_stream()
        for i, (result, error) in enumerate(answers):  # in the order of the questions, an error in its place
            if i == 10:
                self.assertIsNotNone(error)
            else:
                self.assertEqual(result.as_numpy("y")[0], i / 2 + 2)

    def test_tensorflow_serving_grpc(self):
        client = make_grpc_client(self.grpc)
        self.assertEqual(client.get_model_status("half_plus_two")[123]["state"], "AVAILABLE")
        metadata = client.get_model_metadata("half_plus_two", 123)
        self.assertEqual(metadata["inputs"]["x"], {"shape": [-1], "dtype": "DT_FLOAT"})
        x = np.array([1, 2, 5], np.float32)
        np.testing.assert_array_equal(client.predict({"x": x}, "half_plus_two", 123), x / 2 + 2)
        np.testing.assert_array_equal(client.predict({"x": x}, "half_plus_two"), x / 2 + 3)

    def test_tensorflow_serving_rest(self):
        client = make_http_client(self.tfs_tap.address)
        self.assertEqual(client.get_model_status("half_plus_two")[124]["state"], "AVAILABLE")
        x = np.array([1, 2, 5], np.float32)
        np.testing.assert_array_equal(client.predict({"x": x}, "half_plus_two", 123), x / 2 + 2)
        base = f"http://{self.tfs_tap.address}/v1/models/half_plus_two"
        answer = requests.post(base + "/labels/stable:predict", json={"instances": [1.0, 2.0, 5.0]})
        self.assertEqual(answer.json(), {"predictions": [2.5, 3.0, 4.5]})
        packed = gzip.compress(b'{"instances": [1.0, NaN]}', mtime=0)
        answer = requests.post(base + ":predict", data=packed, headers={"Content-Encoding": "gzip"})
        self.assertEqual(answer.text, '{\n    "predictions": [3.5, NaN]\n}')
        self.assertEqual(requests.post(base + ":regress", json={"examples": [{"x": 1.0}, {"x": 2.0}]}).json(),
                         {"results": [3.5, 4.0]})
        self.assertEqual(requests.get(base.replace("half_plus_two", "half")).status_code, 404)

    def test_reflection_is_enough_to_call(self):
        """What grpcurl does: no .proto files, everything from the server."""
        channel = grpc.insecure_channel(self.grpc)
        database = ProtoReflectionDescriptorDatabase(channel)
        self.assertLessEqual({"inference.GRPCInferenceService", "tensorflow.serving.PredictionService",
                              "tensorflow.serving.ModelService", "grpc.health.v1.Health"}, set(database.get_services()))
        pool = descriptor_pool.DescriptorPool(database)

        def call(service, method, **fields):
            found = pool.FindServiceByName(service).FindMethodByName(method)
            request = message_factory.GetMessageClass(found.input_type)(**fields)
            answer = message_factory.GetMessageClass(found.output_type)
            return channel.unary_unary(f"/{service}/{method}", request_serializer=lambda m: m.SerializeToString(),
                                       response_deserializer=answer.FromString)(request, timeout=20)

        self.assertTrue(call("inference.GRPCInferenceService", "ModelReady", name="half_plus_two").ready)
        metadata = call("inference.GRPCInferenceService", "ModelMetadata", name="half_plus_two")
        self.assertEqual([(i.name, i.datatype, list(i.shape)) for i in metadata.inputs], [("x", "FP32", [-1])])
        self.assertEqual(call("grpc.health.v1.Health", "Check").status, 1)
        status = call("tensorflow.serving.ModelService", "GetModelStatus", model_spec={"name": "half_plus_two"})
        self.assertEqual({v.version for v in status.model_version_status}, {123, 124})
        channel.close()

    def test_certificates_change_under_open_connections(self):
        if not shutil.which("openssl"):
            self.skipTest("there is no openssl")
        with tempfile.TemporaryDirectory() as folder:
            key, certificate = folder + "/key.pem", folder + "/certificate.pem"

            def make():
                subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
                                "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", certificate],
                               check=True, capture_output=True)
                return Path(certificate).read_bytes()

            first = make()
            server = ServeProcess(ARGUMENTS[0], "--model", f"m={ARGUMENTS[1]}/half_plus_two", "--tls-certificate", certificate,
                                  "--tls-key", key)
            address = server.address("v2_grpc")
            try:
                def ready(channel):
                    return channel.unary_unary("/inference.GRPCInferenceService/ServerReady")(b"", timeout=10)

                def fresh(root):
                    with grpc.secure_channel(address, grpc.ssl_channel_credentials(root),
                                             [("grpc.use_local_subchannel_pool", 1)]) as channel:
                        return ready(channel)

                held = grpc.secure_channel(address, grpc.ssl_channel_credentials(first))
                states = []
                self.assertEqual(ready(held), b"\x08\x01")
                held.subscribe(states.append)
                second = make()
                end = time.monotonic() + 20
                while True:  # new connections see the new certificate
                    try:
                        self.assertEqual(fresh(second), b"\x08\x01")
                        break
                    except grpc.RpcError:
                        self.assertLess(time.monotonic(), end, "the new certificate was never shown")
                        self.assertEqual(ready(held), b"\x08\x01")
                        time.sleep(0.2)
                with self.assertRaises(grpc.RpcError):
                    fresh(first)
                self.assertEqual(ready(held), b"\x08\x01")  # the open connection was not dropped
                self.assertEqual(set(states), {grpc.ChannelConnectivity.READY})
                held.close()
            finally:
                server.stop()

    def test_the_printed_curl_line(self):
        if not shutil.which("curl"):
            self.skipTest("there is no curl")
        self.assertTrue(self.try_line.startswith("curl "), self.try_line)
        answer = subprocess.run(["bash", "-c", self.try_line], capture_output=True, text=True, check=True).stdout
        self.assertIn("outputs", json.loads(answer))


if __name__ == "__main__":
    ARGUMENTS = sys.argv[1:]
    outcome = unittest.main(argv=sys.argv[:1], exit=False, verbosity=2).result
    if "--record" in ARGUMENTS and outcome.wasSuccessful():
        # Statistics differ from run to run; everything else must come out the same.
        kept = [t for t in TRANSCRIPT if "/stats" not in base64.b64decode(t["request"]).decode("latin1")
                and "Statistics" not in t.get("grpc", "")]
        with open(ARGUMENTS[ARGUMENTS.index("--record") + 1], "w") as file:
            file.write("[\n" + ",\n".join(json.dumps(t) for t in kept) + "\n]\n")
    sys.exit(0 if outcome.wasSuccessful() else 1)
