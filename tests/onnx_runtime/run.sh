#!/usr/bin/env bash
# What the tests export, in onnx.checker and ONNX Runtime.
#   run.sh PROGRAM FILTER [PROGRAM FILTER]...    each a test program and the tests of it that export
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
while [ $# -gt 0 ]; do
  TENON_EXPORT_FOLDER="$folder" "$1" --gtest_filter="$2" --gtest_brief=1
  shift 2
done
python "$here/../../tools/check_onnx_export.py" "$folder"
