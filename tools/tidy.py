#!/usr/bin/env python3
"""Runs clang-tidy over a compile database, in parallel, and remembers what was clean.

    tools/tidy.py --build build/clang [--jobs N] [--fix] [FILE...]

A file is checked again only if its text, a project header that it includes (directly or not), its compile command,
.clang-tidy or clang-tidy itself changed. Clean results are empty files in build/tidy-cache, named by that hash; findings
are never remembered. Which files: FOLDERS below.
"""

import argparse
import concurrent.futures
import hashlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("tenon/", "examples/", "bench/")
CLANG_TIDY = "clang-tidy-19"
INCLUDE = re.compile(rb'^\s*#\s*include\s*[<"](tenon/[^>"]+)[>"]', re.MULTILINE)


def with_headers(path, seen):
    """Adds `path` and every project header that it reaches to `seen`: {path: bytes}."""
    if path in seen or not path.is_file():
        return
    seen[path] = path.read_bytes()
    for name in INCLUDE.findall(seen[path]):
        with_headers(ROOT / name.decode(), seen)


def key_of(source, command, common):
    files = {}
    with_headers(source, files)
    digest = hashlib.sha256(common)
    digest.update(command.encode())
    for path in sorted(files):
        digest.update(b"\0" + str(path.relative_to(ROOT)).encode() + b"\0" + files[path])
    return digest.hexdigest()


def check(source, build, fix):
    started = time.monotonic()
    command = [CLANG_TIDY, "-p", str(build), "--quiet", *(["--fix"] if fix else []), str(source)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    problems = [line for line in run.stderr.splitlines() if not re.match(r"\d+ warnings? (and \d+ errors? )?generated", line)]
    return run.returncode, "\n".join([run.stdout.rstrip(), *problems]).strip(), time.monotonic() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True, help="the folder of compile_commands.json")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--fix", action="store_true", help="apply clang-tidy's corrections, one file after another")
    parser.add_argument("files", nargs="*", type=Path)
    options = parser.parse_args()

    build = options.build.resolve()
    commands = {Path(e["file"]).resolve(): e["command"] for e in json.loads((build / "compile_commands.json").read_text())}
    wanted = {f.resolve() for f in options.files}
    for missing in sorted(wanted - set(commands)):
        sys.exit(f"error: {missing} is not compiled by the build in {build}; name a .cpp file of the project")
    sources = sorted(f for f in commands if f in wanted or (not wanted and str(f.relative_to(ROOT)).startswith(FOLDERS)))

    version = subprocess.run([CLANG_TIDY, "--version"], capture_output=True, check=True).stdout
    common = version + (ROOT / ".clang-tidy").read_bytes()
    cache = ROOT / "build" / "tidy-cache"
    cache.mkdir(parents=True, exist_ok=True)
    keys = {source: key_of(source, commands[source].replace(str(ROOT), ""), common) for source in sources}
    todo = [source for source in sources if wanted or options.fix or not (cache / keys[source]).exists()]
    print(f"clang-tidy: {len(todo)} of {len(sources)} files to check", flush=True)

    failed = []
    with concurrent.futures.ThreadPoolExecutor(1 if options.fix else options.jobs) as pool:
        runs = {pool.submit(check, source, build, options.fix): source for source in todo}
        for done, run in enumerate(concurrent.futures.as_completed(runs), 1):
            source = runs[run]
            status, output, seconds = run.result()
            print(f"[{done}/{len(todo)}] {source.relative_to(ROOT)} {seconds:.1f} s", flush=True)
            if status == 0:
                (cache / keys[source]).touch()
            else:
                failed.append(source)
                print(output, flush=True)
    if failed:
        print(f"clang-tidy: findings in {len(failed)} files: {', '.join(str(f.relative_to(ROOT)) for f in sorted(failed))}")
        return 1
    print("clang-tidy: clean")
    return 0


if __name__ == "__main__":
    sys.exit(main())
