"""tools/check_rooms.py on small trees, good and bad. Each bad tree differs from the good one in one file."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "check_rooms.py"

GOOD = {
    "tenon/CMakeLists.txt": """
        # tenon_room(ghost) in a comment declares nothing
        tenon_room(base LIBRARIES fmt::fmt)
        tenon_room(device DEPENDS base LIBRARIES ${TENON_OPENBLAS})
        tenon_room(trace DEPENDS base)
        tenon_room(nn DEPENDS base trace)
        tenon_room(cli PROGRAM tenon DEPENDS nn)
    """,
    "tenon/tenon.h": '#include "tenon/trace/call.h"\n',
    "tenon/base/error.h": "#pragma once\n#include <string>\n",
    "tenon/base/error.cpp": '#include "tenon/base/error.h"\n\n#include <fmt/format.h>\n',
    "tenon/device/cpu/matmul.cpp": '#include <cblas.h>\n\n#include "tenon/base/error.h"\n',
    "tenon/trace/call.h": '#include "tenon/base/error.h"\n',
    "tenon/nn/linear.h": '#include "tenon/tenon.h"\n',
    "tenon/cli/main.cpp": '#include "tenon/nn/linear.h"\n/*\n#include "tenon/device/none.h"\n*/\n',
}


def check(changes):
    """Runs the tool on the good tree with `changes`: (exit status, what it printed)."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in {**GOOD, **changes}.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        run = subprocess.run([sys.executable, TOOL, "--root", folder], capture_output=True, text=True)
        return run.returncode, run.stdout + run.stderr


class CheckRooms(unittest.TestCase):
    def assert_problem(self, changes, *texts):
        status, output = check(changes)
        self.assertEqual(status, 1, output)
        self.assertIn(": 1 problem\n", output)
        for text in texts:
            self.assertIn(text, output)

    def test_good_tree(self):
        self.assertEqual(check({}), (0, "7 files in 5 rooms: no problems\n"))

    def test_room_below_includes_room_above(self):
        self.assert_problem({"tenon/base/bad.cpp": '\n#include "tenon/trace/call.h"\n'},
                            'tenon/base/bad.cpp:2: #include "tenon/trace/call.h": room base may not include from trace',
                            "it may include from: no other room")

    def test_dependencies_are_not_transitive(self):
        self.assert_problem({"tenon/cli/bad.cpp": '#include "tenon/base/error.h"\n'},
                            "room cli may not include from base (it may include from: nn)")

    def test_public_header_counts_as_the_rooms_behind_it(self):
        self.assert_problem({"tenon/device/bad.cpp": '#include "tenon/tenon.h"\n'},
                            "tenon/device/bad.cpp:1:", "the public header brings in trace, which room device may not")

    def test_public_header_in_a_circle(self):
        self.assert_problem({"tenon/trace/call.h": '#include "tenon/tenon.h"\n'},
                            "include circle: tenon/tenon.h -> tenon/trace/call.h -> tenon/tenon.h")

    def test_circle_inside_a_room(self):
        self.assert_problem({"tenon/base/a.h": '#include "tenon/base/b.h"\n', "tenon/base/b.h": '#include "tenon/base/a.h"\n'},
                            "include circle: tenon/base/a.h -> tenon/base/b.h -> tenon/base/a.h")

    def test_vendor_header_outside_device(self):
        for header in ("dnnl.hpp", "oneapi/dnnl/dnnl.hpp", "lapacke.h", "cblas.h", "immintrin.h", "x86intrin.h"):
            self.assert_problem({"tenon/nn/bad.cpp": f"#include <{header}>\n"},
                                f"tenon/nn/bad.cpp:1: #include <{header}>", "only in device/")

    def test_formatting_library_in_a_header(self):
        self.assert_problem({"tenon/nn/bad.h": "#include <fmt/core.h>\n"}, "tenon/nn/bad.h:1: #include <fmt/core.h>")
        self.assert_problem({"tenon/nn/bad.h": "#include <nlohmann/json.hpp>\n"}, "use JSON in the .cpp")

    def test_missing_file(self):
        self.assert_problem({"tenon/nn/bad.cpp": '#include "tenon/base/eror.h"\n'}, "tenon/nn/bad.cpp:1:", "no such file")

    def test_path_that_is_not_from_the_root(self):
        self.assert_problem({"tenon/base/bad.cpp": '#include "error.h"\n'}, "write the path from the project's folder")

    def test_undeclared_room(self):
        self.assert_problem({"tenon/attic/old.cpp": "int x;\n"}, "tenon/attic/: not declared")

    def test_dependency_on_a_room_below(self):
        self.assert_problem({"tenon/CMakeLists.txt": GOOD["tenon/CMakeLists.txt"].replace("trace DEPENDS base", "trace DEPENDS base nn")},
                            "room trace depends on nn, which is not declared above it")


if __name__ == "__main__":
    unittest.main()
