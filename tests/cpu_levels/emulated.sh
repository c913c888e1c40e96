#!/usr/bin/env bash
# Runs tests/cpu_levels/bits.cpp on emulated CPUs: the level that each has, with the bits of this machine, and a clear
# error on one that is too old. Exit code 77 (skipped) without an emulator.
#   emulated.sh PROGRAM
set -uo pipefail
program="$1"
qemu=$(command -v qemu-x86_64 || command -v qemu-x86_64-static) || {
  echo "skipped: needs qemu-x86_64 (package qemu-user); nothing was tested on other CPUs"
  exit 77
}
bits=$("$program" | grep '^bits ') || { echo "the program fails here"; exit 1; }
failed=0
expect() {  # CPU, exit code, a line of the output
  local output code
  output=$(OPENBLAS_NUM_THREADS=1 "$qemu" -cpu "$1" "$program" 2>&1)
  code=$?
  if [ "$code" != "$2" ] || ! grep -qF -- "$3" <<< "$output" || { [ "$2" = 0 ] && ! grep -qxF -- "$bits" <<< "$output"; }; then
    printf -- '-cpu %s: exit code %s instead of %s, or not "%s" and "%s":\n%s\n' "$1" "$code" "$2" "$3" "$bits" "$output"
    failed=1
  fi
}
expect Haswell 0 "level 3"
expect Haswell,f16c=off 0 "level 2"  # AVX2 alone is not x86-64-v3
expect Haswell,movbe=off 0 "level 2"
expect Nehalem 0 "level 2"
expect core2duo 3 "this CPU is too old"
exit "$failed"
