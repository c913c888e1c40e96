#!/usr/bin/env bash
# Gets other people's programs that the tests run against, with pinned versions, below build/environments: virtual
# environments from PyPI and grpc-js from npm. What is there with these versions stays. Those that cannot be had are named at
# the end, and the exit code is 1; the tests that want them are skipped.
#   tests/environments.sh [NAME...]   clients, kserve, tensorflow, onnx_runtime, perf_analyzer, grpc_js; without a name all
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
# The program alone: its wheel wants a C library of 2.38. Where that of the system is older, those of Debian 13 that it
# needs stand beside it.
perf_analyzer() {
  local at="$PWD/$root/perf_analyzer" list=serve/clients/perf_analyzer.txt
  made "$at" "$list" && return
  python3 -m venv "$at" &&
    "$at/bin/pip" download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --platform manylinux_2_38_x86_64 \
      -d "$at" -r "$list" &&
    python3 -m zipfile -e "$at"/perf_analyzer-*.whl "$at" && rm "$at"/perf_analyzer-*.whl &&
    local program="$at/perf_analyzer/bin/perf_analyzer" && chmod +x "$program" || return
  if "$program" --version > /dev/null 2>&1; then
    ln -s "$program" "$at/bin/perf_analyzer"
  else
    debian_13 "$at/libraries" libc6 libstdc++6 libgcc-s1 libssl3t64 zlib1g libzstd1 || return
    local libraries="$at/libraries/usr/lib/x86_64-linux-gnu"
    printf '#!/bin/sh\nexec "%s" --library-path "%s" "%s" "$@"\n' "$libraries/ld-linux-x86-64.so.2" "$libraries" "$program" \
      > "$at/bin/perf_analyzer" && chmod +x "$at/bin/perf_analyzer" && "$at/bin/perf_analyzer" --version > /dev/null || return
  fi
  cp "$list" "$at/made-from"
}
# debian_13 FOLDER PACKAGE...: what is in them, from where this system has its own.
debian_13() {
  local at="$1" from
  shift
  from="$(sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list \
    2> /dev/null | head -1)"
  [ -n "$from" ] && mkdir -p "$at/apt/lists/partial" "$at/apt/cache/archives/partial" && cd "$at/apt" || return
  echo "deb $from trixie main" > sources.list
  local apt=(apt-get -qq -o "Dir::Etc::sourcelist=$at/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$at/apt/lists" -o "Dir::Cache=$at/apt/cache")
  "${apt[@]}" update && "${apt[@]}" download "$@" && for package in *.deb; do dpkg -x "$package" "$at" || return; done
  local done=$?
  cd "$OLDPWD" && rm -rf "$at/apt" && return $done
}
get() {
  case "$1" in
    clients | kserve | tensorflow) from_pypi "$1" "serve/clients/$1.txt" ;;
    onnx_runtime) from_pypi "$1" onnx_runtime/requirements.txt ;;
    perf_analyzer) perf_analyzer ;;
    grpc_js) from_npm "$1" serve/clients/grpc_js.json ;;
    *) echo "error: there is no environment '$1'" >&2; false ;;
  esac
}

[ $# -gt 0 ] || set -- clients onnx_runtime grpc_js kserve perf_analyzer tensorflow
lacking=""
for name in "$@"; do get "$name" || lacking="$lacking $name"; done
[ -z "$lacking" ] || { echo "not to be had:$lacking"; exit 1; }
