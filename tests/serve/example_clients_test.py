#!/usr/bin/env python3
"""The clients of examples/clients against a server: example_clients_test.py TENON MODELS_FOLDER CPP_CLIENT"""

import json
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

TENON, MODELS, CPP = sys.argv[1:4]
FOLDER = Path(__file__).resolve().parent.parent.parent / "examples/clients"


class ExampleClients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = subprocess.Popen([TENON, "serve", "--model", f"half_plus_two={MODELS}/half_plus_two", "--free-ports", "--address",
                                       "127.0.0.1"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        cls.ports = {}
        for line in cls.server.stdout:
            if line.startswith("ready"):
                break
            if line.startswith("  "):
                name, _, address = line.strip().rpartition(" ")
                cls.ports[name.strip()] = address.rpartition(":")[2]

    @classmethod
    def tearDownClass(cls):
        cls.server.terminate()
        cls.server.communicate()

    def run_client(self, command, listener, model="half_plus_two"):
        return subprocess.run([*command, "127.0.0.1", self.ports[listener], model, "x", "1", "2", "5"], capture_output=True, text=True)

    def test_cpp_and_python(self):
        for command in ([CPP], [sys.executable, str(FOLDER / "infer.py")]):
            answer = self.run_client(command, "Open Inference (v2), REST")
            self.assertEqual(answer.stdout, "3.5\n4\n5.5\n", answer.stderr)
            wrong = self.run_client(command, "Open Inference (v2), REST", "other")
            self.assertNotEqual(wrong.returncode, 0)
            self.assertIn("other", wrong.stderr)

    def test_curl(self):
        if not shutil.which("curl"):
            self.skipTest("there is no curl")
        answer = self.run_client([str(FOLDER / "infer.sh")], "TensorFlow Serving, REST")
        self.assertEqual(json.loads(answer.stdout), {"outputs": [3.5, 4.0, 5.5]}, answer.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
