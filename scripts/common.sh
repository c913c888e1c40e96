# Sourced by every script here: the project's folder, plain messages, a timed step.
# shellcheck shell=bash
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$ROOT"

# ccache shares results between checkouts in different folders.
export CCACHE_BASEDIR="$ROOT" CCACHE_NOHASHDIR=1 CCACHE_MAXSIZE="${CCACHE_MAXSIZE:-10G}"
JOBS="${TENON_JOBS:-$(nproc 2>/dev/null || echo 2)}"

say() { printf '\n== %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# step NAME COMMAND...: runs it and says how long it took. A failure ends the script with the command's status.
step() {
  local name=$1 started=$SECONDS status=0
  shift
  say "$name"
  ( set -e; "$@" ) || status=$?
  if [ "$status" -ne 0 ]; then
    printf -- '-- %s: FAILED after %s s\n' "$name" "$((SECONDS - started))" >&2
    exit "$status"
  fi
  printf -- '-- %s: %s s\n' "$name" "$((SECONDS - started))"
}

# note_space NEEDED WHAT: says so when fewer than NEEDED GB are free here, before a build ends halfway for want of them.
note_space() {
  local free
  free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1000000) }')
  [ "$free" -ge "$1" ] || say "note: $free GB are free in $ROOT; $2 takes up to $1 GB"
}

# configure_and_build PRESET [TARGET...]
configure_and_build() {
  local preset=$1 log
  shift
  mkdir -p build
  # A build that is there already needs little more.
  [ -d "build/$preset/lib" ] || note_space "$([ $# -gt 0 ] && echo 1 || echo 4)" "the build '$preset'"
  log="build/configure-$preset.log"
  if ! cmake --preset "$preset" >"$log" 2>&1; then
    cat "$log" >&2
    die "configuring the preset '$preset' failed (the output is above and in $log)"
  fi
  if [ $# -gt 0 ]; then
    cmake --build --preset "$preset" --parallel "$JOBS" --target "$@"
  else
    cmake --build --preset "$preset" --parallel "$JOBS"
  fi
}
