#!/usr/bin/env bash
# Runs the client tests if their virtual environment is there; exit code 77 (skipped) if not.
#   run.sh TENON [--record FILE]
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
venv="${TENON_CLIENTS_VENV:-$here/../../../build/serve-clients}"
if [ ! -x "$venv/bin/python" ]; then
  echo "skipped: the clients' virtual environment is not at $venv; tests/serve/clients/setup.sh makes it"
  exit 77
fi
tenon="$1"
shift
exec "$venv/bin/python" "$here/clients_test.py" "$tenon" "$here/../goldens/models" "$@"
