#!/usr/bin/env bash
# What the tests export, in onnx.checker and ONNX Runtime: exit code 77 (skipped) if these are not there.
#   run.sh PROGRAM FILTER [PROGRAM FILTER]...    each a test program and the tests of it that export
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
venv="${TENON_ONNX_VENV:-$here/../../build/onnx-runtime}"
if [ ! -x "$venv/bin/python" ]; then
  echo "skipped: ONNX Runtime's virtual environment is not at $venv; tests/onnx_runtime/setup.sh makes it"
  exit 77
fi
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
while [ $# -gt 0 ]; do
  TENON_EXPORT_FOLDER="$folder" "$1" --gtest_filter="$2" --gtest_brief=1
  shift 2
done
"$venv/bin/python" "$here/../../tools/check_onnx_export.py" "$folder"
