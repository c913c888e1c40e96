#!/usr/bin/env bash
# Makes the virtual environment of the client tests: build/serve-clients, or the folder in TENON_CLIENTS_VENV. Does nothing
# if it is there with these versions.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
venv="${TENON_CLIENTS_VENV:-$here/../../../build/serve-clients}"
if ! cmp -s "$here/requirements.txt" "$venv/made-from.txt"; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$venv/made-from.txt"
fi
echo "clients are in $venv; run: ctest --preset release -R serve.clients"
