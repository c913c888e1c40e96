#!/usr/bin/env bash
# Gets other people's programs that the tests run against, with pinned versions, below build/environments: virtual
# environments from PyPI and grpc-js from npm. What is there with these versions stays. Those that cannot be had are named at
# the end, and the exit code is 1; the tests that want them are skipped.
#   tests/environments.sh [NAME...]   clients, kserve, tensorflow, onnx_runtime, grpc_js; without a name all of them
set -uo pipefail
cd "$(dirname "$0")"
root="../build/environments"
mkdir -p "$root"

# made FOLDER LIST: whether it was made from this list; what was made from another one goes.
made() {
  cmp -s "$2" "$1/made-from" && return
  rm -rf "$1"
  return 1
}
from_pypi() {
  made "$root/$1" "$2" || {
    python3 -m venv "$root/$1" &&
      "$root/$1/bin/pip" install --quiet --disable-pip-version-check --no-compile -r "$2" && cp "$2" "$root/$1/made-from"
  }
}
from_npm() {
  made "$root/$1" "$2" || {
    mkdir -p "$root/$1" && cp "$2" "$root/$1/package.json" &&
      npm install --silent --no-audit --no-fund --prefix "$root/$1" && cp "$2" "$root/$1/made-from"
  }
}
get() {
  case "$1" in
    clients | kserve | tensorflow) from_pypi "$1" "serve/clients/$1.txt" ;;
    onnx_runtime) from_pypi "$1" onnx_runtime/requirements.txt ;;
    grpc_js) from_npm "$1" serve/clients/grpc_js.json ;;
    *) echo "error: there is no environment '$1'" >&2; false ;;
  esac
}

[ $# -gt 0 ] || set -- clients onnx_runtime grpc_js kserve tensorflow
lacking=""
for name in "$@"; do get "$name" || lacking="$lacking $name"; done
[ -z "$lacking" ] || { echo "not to be had:$lacking"; exit 1; }
