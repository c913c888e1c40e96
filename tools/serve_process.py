"""`tenon serve` as a process of a Python program: started, its ports read from what it prints, ended.

    with ServeProcess(tenon, "--model", "m=model.onnx") as server:
        urllib.request.urlopen(f"http://{server.address('v2_rest')}/readyz")

The one place that reads the lines it prints at its start; used by bench/, scripts/soak and tests/serve.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path

LISTENERS = {"TensorFlow Serving, REST": "tfs_rest", "TensorFlow Serving, gRPC": "tfs_grpc", "Open Inference (v2), REST": "v2_rest",
             "Open Inference (v2), gRPC": "v2_grpc", "loading by hand": "control"}


class ServeProcess:
    """Free ports of this machine unless the flags say otherwise; ready when the constructor returns."""

    def __init__(self, tenon, *flags, wrapper=(), stderr=subprocess.DEVNULL, env=None):
        self.command = [*wrapper, str(tenon), "serve", "--free-ports", "--address", "127.0.0.1", *map(str, flags)]
        self.stderr, self.env = stderr, env
        self.ports, self.try_line = {}, ""  # the line of curl that it prints to try
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=self.stderr, text=True, env=self.env)
        ports = {}
        for line in self.process.stdout:
            if line.startswith("  ") and not line.startswith("  curl"):
                name, _, address = line.strip().rpartition(" ")
                ports[LISTENERS[name.strip()]] = int(address.rpartition(":")[2])
            if line.startswith("ready"):
                self.ports = ports
                if "try" in line:
                    self.try_line = self.process.stdout.readline().strip()
                return
        raise RuntimeError(f"the server ended with {self.process.wait()} before it was ready: {' '.join(self.command)}")

    @property
    def pid(self):
        return self.process.pid

    def address(self, listener):
        return f"127.0.0.1:{self.ports[listener]}"

    def resident(self):
        """Bytes of memory that it has now."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) * 1024

    def stop(self, patience=60):
        """Ends it by SIGTERM; its exit code."""
        self.process.terminate()
        code = self.process.wait(timeout=patience)
        self.process.stdout.close()
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def loadtest(tenon, url, *flags, warm_up=0):
    """`tenon loadtest`; what it found: sent, answered, errors by code, p50_ms, p99_ms, …"""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        subprocess.run([str(tenon), "loadtest", url, "--warm-up", str(warm_up), "--json", file.name, *map(str, flags)], check=True,
                       stdout=subprocess.DEVNULL)
        return json.loads(Path(file.name).read_text())
