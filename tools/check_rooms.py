#!/usr/bin/env python3
"""Checks who includes whom below tenon/.

    tools/check_rooms.py [--root DIR] [--graph]

The rule is tenon/CMakeLists.txt itself: tenon_room(NAME DEPENDS room...) says from which rooms the files in tenon/NAME/
may include. Checked, each with the offending line:
  * a room includes only from itself and the rooms in its DEPENDS list, and every folder is a declared room;
  * a public header (tenon/*.h) counts as the rooms that it includes, so a room may include it if it may include those;
  * what is included exists, project headers are written "tenon/ROOM/name.h", and no header includes itself in a circle;
  * outside libraries appear only where OUTSIDE below allows them.
To add a room: tenon/CMakeLists.txt. To allow an outside header somewhere: the table OUTSIDE.
--graph prints the rooms and what each really includes.
"""

import argparse
import re
import sys
from pathlib import Path

# (pattern of the header, folders below tenon/ that may include it, in headers too?, why)
OUTSIDE = [
    (r"(oneapi/)?dnnl.*", ["device"], True, "vendor libraries are seen only in device/"),
    (r"(lapacke|cblas|openblas).*", ["device"], True, "vendor libraries are seen only in device/"),
    (r"(x86|i|xmm|emm|pmm|tmm|avx\w*|arm_)\w*intrin\.h|arm_neon\.h|cpuid\.h", ["device"], True,
     "instructions of one processor are seen only in device/"),
    (r"omp\.h|tbb/.*", [], True, "threads come from base/"),
    (r"llvm/.*|llvm-c/.*", ["compile/llvm"], True, "LLVM is seen only in compile/llvm/"),
    (r"png\.h|jpeglib\.h|zip\.h", ["data", "formats"], False, "file formats are read in data/ and formats/"),
    (r"zlib\.h", ["base", "data", "formats", "train", "serve"], False, "compression belongs to base/, data/ and formats/"),
    (r"pcre2\.h|utf8proc\.h", ["text"], False, "Unicode and regular expressions belong to text/"),
    (r"boost/.*|grpc/.*|grpcpp/.*|nghttp2/.*|openssl/.*", ["serve"], False, "the network is seen only in the sources of serve/"),
    (r"fmt/.*", ["*"], False, "headers stay free of outside libraries: use fmt in the .cpp"),
    (r"nlohmann/.*", ["*"], False, "headers stay free of outside libraries: use JSON in the .cpp"),
]

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
ROOM = re.compile(r"tenon_room\(\s*([\w-]+)([^)]*)\)", re.DOTALL)
KEYWORDS = {"DEPENDS", "LIBRARIES", "PROGRAM", "SEPARATE", "TRAINING"}


def read_rooms(cmake_file):
    """The declared rooms, in order: {name: set of rooms that it may include from}."""
    text = re.sub(r"#.*", "", cmake_file.read_text())
    rooms = {}
    for name, arguments in ROOM.findall(text):
        depends, keyword = set(), None
        for word in arguments.split():
            if word in KEYWORDS:
                keyword = word
            elif keyword == "DEPENDS":
                depends.add(word)
        rooms[name] = depends
    return rooms


def read_includes(path):
    """[(line number, '<' or '"', header)] of one file; block comments do not count."""
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group().count("\n"), path.read_text(errors="replace"), flags=re.DOTALL)
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        match = INCLUDE.match(line)
        if match:
            found.append((number, match.group(1), match.group(2)))
    return found


class Checker:
    def __init__(self, root):
        self.root = root
        self.problems = []
        self.rooms = read_rooms(root / "tenon" / "CMakeLists.txt")
        files = sorted(p for p in (root / "tenon").rglob("*") if p.suffix in (".h", ".cpp"))
        self.includes = {p.relative_to(root).as_posix(): read_includes(p) for p in files}
        self.used = {name: set() for name in self.rooms}  # room -> rooms that it really includes

    def report(self, file, number, line, why):
        self.problems.append(f"{file}:{number}: #include {line}: {why}")

    @staticmethod
    def room_of(path):
        """'ops' for tenon/ops/…; '' for a public header tenon/x.h."""
        parts = path.split("/")
        return parts[1] if len(parts) > 2 else ""

    def rooms_behind(self, header, seen=None):
        """The rooms that a public header includes, through other public headers too."""
        seen = set() if seen is None else seen
        if header in seen:
            return set()
        seen.add(header)
        rooms = set()
        for _, _, included in self.includes.get(header, []):
            if included.startswith("tenon/"):
                room = self.room_of(included)
                rooms |= {room} if room else self.rooms_behind(included, seen)
        return rooms

    def check_declarations(self):
        known = set()
        for name, depends in self.rooms.items():
            for missing in sorted(depends - known):
                self.problems.append(f"tenon/CMakeLists.txt: room {name} depends on {missing}, which is not declared above it")
            known.add(name)
        for folder in sorted({self.room_of(f) for f in self.includes} - {""} - set(self.rooms)):
            self.problems.append(f"tenon/{folder}/: not declared; add tenon_room({folder} DEPENDS …) to tenon/CMakeLists.txt")

    def check_project_include(self, file, number, text, header):
        if header not in self.includes:
            self.report(file, number, text, "no such file")
            return
        room = self.room_of(file)
        target = self.room_of(header)
        if room == "" or room not in self.rooms:
            return  # a public header may include from every room
        targets = {target} if target else self.rooms_behind(header)
        self.used[room] |= targets - {room}
        forbidden = sorted(targets - self.rooms[room] - {room})
        if forbidden and target:
            allowed = ", ".join(sorted(self.rooms[room])) or "no other room"
            self.report(file, number, text, f"room {room} may not include from {target} (it may include from: {allowed})")
        elif forbidden:
            self.report(file, number, text, f"the public header brings in {', '.join(forbidden)}, which room {room} may not include")

    def check_outside_include(self, file, number, text, header):
        folder = file[len("tenon/"):]
        for pattern, places, in_headers, why in OUTSIDE:
            if not re.fullmatch(pattern, header):
                continue
            here = any(place == "*" or folder.startswith(place + "/") for place in places)
            if not here or (file.endswith(".h") and not in_headers):
                self.report(file, number, text, why)

    def check_cycles(self):
        done, path = set(), []

        def visit(file):
            if file in path:
                circle = path[path.index(file):] + [file]
                self.problems.append(f"{circle[-2]}: include circle: {' -> '.join(circle)}")
                return
            if file in done:
                return
            path.append(file)
            for _, _, header in self.includes[file]:
                if header in self.includes:
                    visit(header)
            path.pop()
            done.add(file)

        for file in self.includes:
            visit(file)

    def run(self):
        self.check_declarations()
        for file, includes in self.includes.items():
            for number, bracket, header in includes:
                text = f"{bracket}{header}{'>' if bracket == '<' else bracket}"
                if header.startswith("tenon/"):
                    if bracket == "<":
                        self.report(file, number, text, "inside the project it is written with quotes")
                    self.check_project_include(file, number, text, header)
                elif bracket == '"' and (self.root / file).parent.joinpath(header).exists():
                    self.report(file, number, text, "write the path from the project's folder: \"tenon/…\"")
                else:
                    self.check_outside_include(file, number, text, header)
        self.check_cycles()
        return self.problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent, help="the project's folder")
    parser.add_argument("--graph", action="store_true", help="print what each room really includes")
    options = parser.parse_args()
    checker = Checker(options.root)
    problems = checker.run()
    if options.graph:
        for room, depends in checker.rooms.items():
            idle = sorted(depends - checker.used[room])
            print(f"{room}: {' '.join(sorted(checker.used[room])) or '-'}" + (f"   (may, does not: {' '.join(idle)})" if idle else ""))
    for problem in problems:
        print(problem)
    print(f"{len(checker.includes)} files in {len(checker.rooms)} rooms: {len(problems) or 'no'} problem{'s' if len(problems) != 1 else ''}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
