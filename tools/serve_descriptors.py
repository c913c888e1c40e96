#!/usr/bin/env python3
"""Writes tenon/serve/descriptors.cpp: what gRPC reflection tells of the server's services, as protoc describes them.

    tools/serve_descriptors.py [--check]

--check only says whether the file is as it would be written (exit code 1 if not; 77 if protoc is not there).
"""

import base64
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "tenon/serve/descriptors.cpp"
HEAD = """// Made by tools/serve_descriptors.py from tenon/serve/proto: a FileDescriptorSet in base64.
#include "tenon/serve/reflection.h"

namespace tenon::serve {

std::string_view descriptor_set_base64() {
  static constexpr std::string_view kText =
"""


def main():
    protoc = shutil.which("protoc")
    if not protoc:
        print("skipped: protoc is not there (Debian: apt-get install protobuf-compiler)")
        sys.exit(77)
    folder = ROOT / "tenon/serve/proto"
    with tempfile.TemporaryDirectory() as scratch:
        # Older clients ask for the same service under another package.
        older = (folder / "reflection.proto").read_text().replace("grpc.reflection.v1", "grpc.reflection.v1alpha")
        (Path(scratch) / "reflection_v1alpha.proto").write_text(older)
        out = Path(scratch) / "set"
        files = sorted(p.name for p in [*folder.glob("*.proto"), *Path(scratch).glob("*.proto")])
        subprocess.run([protoc, f"--proto_path={folder}", f"--proto_path={scratch}", "--include_imports",
                        f"--descriptor_set_out={out}", *files], check=True)
        text = base64.b64encode(out.read_bytes()).decode()
    lines = [text[i:i + 111] for i in range(0, len(text), 111)]
    body = "\n".join(f'      "{line}"' for line in lines)
    content = f"{HEAD}{body};\n  return kText;\n}}\n\n}}  // namespace tenon::serve\n"
    if "--check" in sys.argv:
        same = OUT.read_text() == content
        print("the descriptors are those of the .proto files" if same else f"{OUT} is stale: run tools/serve_descriptors.py")
        sys.exit(0 if same else 1)
    OUT.write_text(content)


if __name__ == "__main__":
    main()
