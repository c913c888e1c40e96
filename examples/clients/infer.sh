#!/usr/bin/env bash
# A client of the model server with curl (TensorFlow Serving's REST): infer.sh HOST PORT MODEL INPUT VALUE...
set -euo pipefail
host="$1" port="$2" model="$3" name="$4"
shift 4
values="$(IFS=,; echo "$*")"
curl -sS --fail-with-body --max-time 30 -H "Content-Type: application/json" \
  -d "{\"inputs\": {\"$name\": [$values]}}" "http://$host:$port/v1/models/$model:predict"
