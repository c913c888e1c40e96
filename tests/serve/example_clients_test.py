#!/usr/bin/env python3
"""The clients of examples/clients against a server: example_clients_test.py TENON MODELS_FOLDER CPP_CLIENT"""

import json
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from serve_process import ServeProcess  # noqa: E402

TENON, MODELS, CPP = sys.argv[1:4]
FOLDER = ROOT / "examples/clients"


class ExampleClients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = ServeProcess(TENON, "--model", f"half_plus_two={MODELS}/half_plus_two")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def run_client(self, command, listener, model="half_plus_two"):
        return subprocess.run([*command, "127.0.0.1", str(self.server.ports[listener]), model, "x", "1", "2", "5"], capture_output=True, text=True)

    def test_cpp_and_python(self):
        for command in ([CPP], [sys.executable, str(FOLDER / "infer.py")]):
            answer = self.run_client(command, "v2_rest")
            self.assertEqual(answer.stdout, "3.5\n4\n5.5\n", answer.stderr)
            wrong = self.run_client(command, "v2_rest", "other")
            self.assertNotEqual(wrong.returncode, 0)
            self.assertIn("other", wrong.stderr)

    def test_curl(self):
        if not shutil.which("curl"):
            self.skipTest("there is no curl")
        answer = self.run_client([str(FOLDER / "infer.sh")], "tfs_rest")
        self.assertEqual(json.loads(answer.stdout), {"outputs": [3.5, 4.0, 5.5]}, answer.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
