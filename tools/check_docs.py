#!/usr/bin/env python3
"""Keeps README.md, CONTRIBUTING.md and docs/ honest.

    tools/check_docs.py                  every relative link leads to a file (and to a heading, if it names one),
                                         every ./scripts/… that is mentioned exists
    tools/check_docs.py --extract DIR    writes each complete program (a ```cpp block with `int main`) to DIR as a .cpp

The build compiles and runs the extracted programs as the tests docs.* (tests/docs). A block that opens with
```cpp compile-only is compiled and not run. A page in docs/ takes part by being there.
"""

import argparse
import re
import sys
from pathlib import Path

FENCE = re.compile(r"^(\s*)(`{3,}|~{3,})(.*)$")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
SCRIPT = re.compile(r"(?<![\w/])\./?(scripts/[\w.-]*\w)")


def pages(root):
    return [p for p in (root / "README.md", root / "CONTRIBUTING.md") if p.exists()] + sorted((root / "docs").rglob("*.md"))


def blocks(text):
    """Splits a page: (fenced blocks as (line number of the first line, info, lines), prose lines as (number, line))."""
    found, prose, fence, info, body, start = [], [], None, "", [], 0
    for number, line in enumerate(text.splitlines(), 1):
        match = FENCE.match(line)
        if fence is None and match:
            fence, info, body, start = match.group(2), match.group(3).strip(), [], number + 1
        elif fence is not None and match and match.group(2).startswith(fence) and not match.group(3).strip():
            found.append((start, info, body))
            fence = None
        elif fence is not None:
            body.append(line)
        else:
            prose.append((number, line))
    if fence is not None:
        found.append((start, "unclosed", body))
    return found, prose


def anchors(path):
    """The anchors that GitHub makes of a page's headings."""
    names = set()
    for _, line in blocks(path.read_text())[1]:
        match = re.match(r"#+\s+(.*?)\s*#*$", line)
        if match:
            words = re.sub(r"[^\w\- ]", "", match.group(1).lower()).replace(" ", "-")
            count, name = 0, words
            while name in names:
                count += 1
                name = f"{words}-{count}"
            names.add(name)
    return names


def check(root):
    problems = []
    for page in pages(root):
        name = page.relative_to(root).as_posix()
        text = page.read_text()
        found, prose = blocks(text)
        problems += [f"{name}:{start - 1}: this code block is never closed" for start, info, _ in found if info == "unclosed"]
        for number, line in prose:
            for target in LINK.findall(re.sub(r"`[^`]*`", "", line)):
                if re.match(r"[a-z]+:", target):
                    continue
                path, _, anchor = target.partition("#")
                file = (page.parent / path).resolve() if path else page
                if not file.exists():
                    problems.append(f"{name}:{number}: the link {target} leads nowhere")
                elif anchor and file.suffix == ".md" and anchor not in anchors(file):
                    problems.append(f"{name}:{number}: the link {target} names a heading that is not there")
        for number, line in enumerate(text.splitlines(), 1):
            for script in SCRIPT.findall(line):
                if not (root / script).exists():
                    problems.append(f"{name}:{number}: there is no {script}")
    return problems


def extract(root, folder):
    folder.mkdir(parents=True, exist_ok=True)
    written = set()
    for page in pages(root):
        stem = re.sub(r"\W+", "_", page.relative_to(root).with_suffix("").as_posix())
        count = 0
        for start, info, body in blocks(page.read_text())[0]:
            words = info.split()
            if not words or words[0] not in ("cpp", "c++") or not any(re.search(r"\bint main\b", line) for line in body):
                continue
            count += 1
            mode = "_compile_only" if "compile-only" in words else ""
            file = folder / f"{stem}_{count}{mode}.cpp"
            # Compiler messages name the page and the line.
            text = f'#line {start} "{page.relative_to(root).as_posix()}"\n' + "\n".join(body) + "\n"
            if not file.exists() or file.read_text() != text:
                file.write_text(text)
            written.add(file)
    for stale in set(folder.glob("*.cpp")) - written:
        stale.unlink()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent, help="the project's folder")
    parser.add_argument("--extract", type=Path, metavar="DIR")
    options = parser.parse_args()
    if options.extract:
        extract(options.root, options.extract)
        return 0
    problems = check(options.root)
    for problem in problems:
        print(problem)
    print(f"{len(pages(options.root))} pages: {len(problems) or 'no'} problem{'s' if len(problems) != 1 else ''}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
