#!/usr/bin/env bash
# Makes the virtual environment of the checks of exported models: build/onnx-runtime, or the folder in TENON_ONNX_VENV.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
venv="${TENON_ONNX_VENV:-$here/../../build/onnx-runtime}"
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
echo "it is in $venv; run: ctest --preset release -R onnx_runtime"
