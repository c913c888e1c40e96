#!/usr/bin/env python3
"""Exported models in other people's hands: onnx.checker, and ONNX Runtime against Tenon's outputs.

    TENON_EXPORT_FOLDER=DIR build/release/bin/test_conformance --gtest_filter='*Exported*'
    TENON_EXPORT_FOLDER=DIR build/release/bin/test_formats --gtest_filter='OnnxExport*'
    tools/check_onnx_export.py DIR [--json FILE]

Each folder of DIR holds model.onnx, input_i.npy and output_i.npy. Needs the packages onnx, onnxruntime and numpy from PyPI.
Prints a line for each case that does not pass and closes with the counts; ends with 1 if there is one. A case whose operator
ONNX Runtime has no kernel for is counted apart: the model is right, the runtime cannot run it.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy
import onnx
import onnxruntime

RELATIVE = {"float16": 1e-3}  # everything else: 1e-4


def arrays(folder, what):
    list_ = []
    while (path := folder / f"{what}_{len(list_)}.npy").exists():
        list_.append(numpy.load(path))
    return list_


def difference(got, want):
    if got.dtype != want.dtype or got.shape != want.shape:
        return f"{want.dtype}{list(want.shape)} expected, {got.dtype}{list(got.shape)} given"
    if got.dtype.kind != "f":
        return "" if (got == want).all() else "elements differ"
    a, b = got.astype(numpy.float64), want.astype(numpy.float64)
    same = (a == b) | (numpy.isnan(a) & numpy.isnan(b))
    if same.all():
        return ""
    with numpy.errstate(invalid="ignore"):
        finite = numpy.abs(b[numpy.isfinite(b)])
        allowed = RELATIVE.get(str(want.dtype), 1e-4) * max(1.0, finite.max() if finite.size else 1.0)
        apart = numpy.abs(a - b)[~same].max()
    return "" if apart <= allowed else f"differs by {apart:.3g}"


def check(folder):
    """("passed" | "failed" | "no kernel", text)"""
    path = folder / "model.onnx"
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # the checker's own kinds and those of shape inference
        return "failed", "checker: " + str(error).strip().split("\n")[0]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        text = str(error).strip().split("\n")[0]
        return ("no kernel" if "NOT_IMPLEMENTED" in text else "failed"), text
    if (folder / "no_arrays").exists():  # of a type that NumPy's files do not have
        return "loaded", "checked and loaded; its arrays cannot be kept"
    try:
        inputs = {i.name: x for i, x in zip(session.get_inputs(), arrays(folder, "input"), strict=True)}
        got = session.run(None, inputs)
    except Exception as error:
        text = str(error).strip().split("\n")[0]
        return ("no kernel" if "No corresponding Numpy type" in text else "failed"), text  # bfloat16 comes out of no session
    want = arrays(folder, "output")
    if len(got) != len(want):
        return "failed", f"{len(want)} outputs expected, {len(got)} given"
    problems = [f"output {i} {p}" for i, (a, b) in enumerate(zip(got, want)) if (p := difference(a, b))]
    return ("failed", "; ".join(problems)) if problems else ("passed", "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    counts, rows = {"passed": 0, "failed": 0, "no kernel": 0, "loaded": 0}, []
    for path in sorted(arguments.folder.glob("*/model.onnx")):
        outcome, text = check(path.parent)
        counts[outcome] += 1
        rows.append({"name": path.parent.name, "outcome": outcome, "reason": text})
        if outcome != "passed":
            print(f"{outcome:<10}{path.parent.name}: {text}")
    print(", ".join(f"{n} {what}" for what, n in counts.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps({**counts, "cases": rows}, indent=1) + "\n")
    return 1 if counts["failed"] or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
