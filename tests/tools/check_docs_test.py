"""tools/check_docs.py on small sets of pages."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "check_docs.py"

PROGRAM = "```cpp\n#include <cstdio>\nint main() { std::puts(\"hello\"); }\n```\n"


def run(pages, *arguments):
    """Runs the tool on `pages`: (exit status, output, {extracted name: text})."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in {"scripts/test": "", **pages}.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        result = subprocess.run([sys.executable, TOOL, "--root", folder, *arguments], capture_output=True, text=True, cwd=folder)
        extracted = {p.name: p.read_text() for p in Path(folder, "out").glob("*.cpp")}
        return result.returncode, result.stdout + result.stderr, extracted


class Links(unittest.TestCase):
    def test_good_page(self):
        status, output, _ = run({"README.md": "# A\n[b](docs/b.md#c-d) [here](#a) [out](https://example.org/x) `[x](y)`\n./scripts/test\n",
                                 "docs/b.md": "## C: d\n[up](../README.md)\n"})
        self.assertEqual((status, output), (0, "2 pages: no problems\n"))

    def test_bad_pages(self):
        for page, text in {
            "x\n[b](docs/none.md)\n": "README.md:2: the link docs/none.md leads nowhere",
            "# A\n[b](#b)\n": "README.md:2: the link #b names a heading that is not there",
            "run `./scripts/nothing`\n": "README.md:1: there is no scripts/nothing",
            "a\n```cpp\nint x;\n": "README.md:2: this code block is never closed",
        }.items():
            status, output, _ = run({"README.md": page})
            self.assertEqual(status, 1)
            self.assertIn(text, output)


class Programs(unittest.TestCase):
    def test_only_complete_programs_are_extracted(self):
        pages = {"README.md": "text\n" + PROGRAM + "```cpp\nauto part = 1;\n```\n```sh\nint main\n```\n", "docs/a-b.md": PROGRAM}
        status, _, extracted = run(pages, "--extract", "out")
        self.assertEqual(status, 0)
        self.assertEqual(sorted(extracted), ["README_1.cpp", "docs_a_b_1.cpp"])
        self.assertTrue(extracted["README_1.cpp"].startswith('#line 3 "README.md"\n#include <cstdio>\n'))

    def test_compile_only(self):
        _, _, extracted = run({"README.md": PROGRAM.replace("cpp", "cpp compile-only", 1)}, "--extract", "out")
        self.assertEqual(list(extracted), ["README_1_compile_only.cpp"])

    def test_stale_programs_go(self):
        _, _, extracted = run({"README.md": "nothing\n", "out/README_1.cpp": "int main() {}\n"}, "--extract", "out")
        self.assertEqual(extracted, {})


if __name__ == "__main__":
    unittest.main()
