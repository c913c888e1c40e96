#!/usr/bin/env python3
"""Runs clang-tidy over a compile database, in parallel, and remembers what was clean.

    tools/tidy.py --build build/clang [--jobs N] [--fix] [FILE...]

Most of clang-tidy's time goes into the standard library's headers, which every file includes: so files with the same flags
are checked together, as one unit that includes up to TOGETHER of them. Files whose local names clash do not compile together
and are kept apart, as far as the text tells (local_names); a unit that does not compile all the same is halved until it does.

A file is checked again only if its text, a project header that it includes (directly or not), its compile command,
.clang-tidy or clang-tidy itself changed. Clean results are empty files in TENON_TIDY_CACHE (~/.cache/tenon/tidy), named by
that hash, so that checkouts share them; findings are never remembered. Which files: FOLDERS below.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("tenon/", "examples/", "bench/")
CLANG_TIDY = "clang-tidy-19"
TOGETHER = 16
FINDING = re.compile(r"^(/[^:]+):\d+:\d+: (?:error|warning): ", re.MULTILINE)
FINDING_STARTS = re.compile(r"^(?=/[^:]+:\d+:\d+: (?:error|warning): )", re.MULTILINE)
LOCAL = re.compile(r"^namespace \{\n(.*?)^\}  // namespace\n", re.MULTILINE | re.DOTALL)
TYPE = re.compile(r"^(?:template <[^;{]*>\s+)?(?:class|struct|enum class|using|concept) (\w+)", re.MULTILINE)
VALUE = re.compile(r"^[\w:][^=({;#]*?\b(\w+)(?:\[\w*\])? *[={;]", re.MULTILINE)
FUNCTION = re.compile(r"^[\w:][^=({;#]*?\b(\w+)\(([^)]*)\)", re.MULTILINE)
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


def flags_of(command):
    """The compiler and the flags that decide how a source is read, without its name, its result and its dependencies."""
    words = shlex.split(command)
    while os.path.basename(words[0]).startswith(("cmake", "ccache")) or words[0] in ("-E", "env") or "=" in words[0]:
        words.pop(0)
    kept = [words[0]]
    rest = iter(words[1:])
    for word in rest:
        if word in ("-o", "-c", "-MT", "-MF"):
            next(rest)
        elif word not in ("-MD", "-fPIC", "-fPIE") and not re.fullmatch(r"-O\w*", word):
            kept.append(word)
    return kept


def local_names(text):
    """What a source declares in its unnamed namespaces: names, and those of functions with the types of their parameters."""
    names = set()
    for body in LOCAL.findall(text):
        names.update(TYPE.findall(body))
        names.update(VALUE.findall(body))
        for name, parameters in FUNCTION.findall(body):
            types = [re.sub(r"\s*\b\w+( = .*)?$", "", p.strip()) for p in parameters.split(",")]
            names.add(f"{name}({', '.join(types)})")
    return names


def unit_of(sources, folder):
    if len(sources) == 1:
        return sources[0]
    unit = Path(folder) / (hashlib.sha256("".join(map(str, sources)).encode()).hexdigest()[:16] + ".cpp")
    unit.write_text("".join(f'#include "{source}"\n' for source in sources))
    return unit


def check(sources, flags, folder, fix):
    """Returns (sources with findings, text) for sources that have the same flags."""
    command = [CLANG_TIDY, "--quiet", f"--config-file={ROOT / '.clang-tidy'}", *(["--fix"] if fix else [])]
    command += ["--checks=-bugprone-suspicious-include", str(unit_of(sources, folder)), "--", *flags[1:]]
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    if run.returncode == 0:
        return [], ""
    if len(sources) > 1 and "[clang-diagnostic-error]" in run.stdout:
        half = len(sources) // 2
        parts = [check(part, flags, folder, fix) for part in (sources[:half], sources[half:])]
        return parts[0][0] + parts[1][0], "\n".join(text for _, text in parts if text)
    problems = [line for line in run.stderr.splitlines() if not re.match(r"\d+ warnings? (and \d+ errors? )?generated", line)]
    named = {Path(path) for path in FINDING.findall(run.stdout)}
    # A finding in a header belongs to nobody: none of them is clean then.
    blamed = [s for s in sources if s in named] if named <= set(sources) and named else sources
    return blamed, "\n".join([run.stdout.rstrip(), *problems]).strip()


def forget_old(cache):
    """What nobody has asked for since a month goes, so that the folder does not grow for ever."""
    for result in cache.iterdir():
        if result.stat().st_mtime < time.time() - 30 * 86400:
            result.unlink(missing_ok=True)


def known_clean(result):
    if not result.exists():
        return False
    result.touch()
    return True


def groups_of(sources, commands, together):
    """[(sources, flags)]: each source goes to the first group with its flags that has room and none of its names."""
    by_flags = {}
    for source in sources:
        names = local_names(source.read_text())
        groups = by_flags.setdefault(tuple(flags_of(commands[source])), [])
        fitting = (g for g in groups if len(g[0]) < together and not g[1] & names)
        group = next(fitting, None)
        if group is None:
            group = ([], set())
            groups.append(group)
        group[0].append(source)
        group[1].update(names)
    return [(files, list(flags)) for flags, groups in by_flags.items() for files, _ in groups]


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
    cache = Path(os.environ.get("TENON_TIDY_CACHE") or Path.home() / ".cache" / "tenon" / "tidy")
    cache.mkdir(parents=True, exist_ok=True)
    forget_old(cache)
    keys = {source: key_of(source, commands[source].replace(str(ROOT), ""), common) for source in sources}
    todo = [source for source in sources if wanted or options.fix or not known_clean(cache / keys[source])]
    print(f"clang-tidy: {len(todo)} of {len(sources)} files to check", flush=True)

    failed, told = [], set()
    groups = groups_of(todo, commands, 1 if options.fix else TOGETHER)
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(1 if options.fix else options.jobs) as pool:
        started = time.monotonic()
        runs = {pool.submit(check, files, flags, folder, options.fix): files for files, flags in groups}
        done = 0
        for run in concurrent.futures.as_completed(runs):
            blamed, output = run.result()
            done += len(runs[run])
            first, last = (str(f.relative_to(ROOT)) for f in (runs[run][0], runs[run][-1]))
            print(f"[{done}/{len(todo)}] {first} to {last}, {time.monotonic() - started:.0f} s", flush=True)
            for source in set(runs[run]) - set(blamed):
                (cache / keys[source]).touch()
            failed += blamed
            # A finding in a header comes with every unit that reads it; it is told once.
            news = [part for part in FINDING_STARTS.split(output) if part not in told]
            told.update(news)
            if "".join(news).strip():
                print("".join(news).rstrip(), flush=True)
    if failed:
        print(f"clang-tidy: findings in {len(failed)} files: {', '.join(str(f.relative_to(ROOT)) for f in sorted(failed))}")
        return 1
    print("clang-tidy: clean")
    return 0


if __name__ == "__main__":
    sys.exit(main())
