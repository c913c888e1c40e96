#!/usr/bin/env bash
# Runs a program with the commands of an environment (tests/environments.sh) in front of PATH and its folder in
# TENON_ENVIRONMENT; exit code 77 (skipped) if it is not there.
#   in_environment.sh NAME PROGRAM ARGUMENT...
set -euo pipefail
folder="$(cd "$(dirname "$0")/.." && pwd)/build/environments/$1"
if [ ! -f "$folder/made-from" ]; then
  echo "skipped: $folder is not there; tests/environments.sh $1 makes it"
  exit 77
fi
shift
PATH="$folder/bin:$PATH" TENON_ENVIRONMENT="$folder" exec "$@"
