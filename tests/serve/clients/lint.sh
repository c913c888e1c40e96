#!/usr/bin/env bash
# deploy/Dockerfile under hadolint; exit code 77 (skipped) if it is not in the clients' environment.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
lint="${TENON_CLIENTS_VENV:-$here/../../../build/serve-clients}/bin/hadolint"
if [ ! -x "$lint" ]; then
  echo "skipped: hadolint is not at $lint; tests/serve/clients/setup.sh gets it"
  exit 77
fi
exec "$lint" "$here/../../../deploy/Dockerfile"
