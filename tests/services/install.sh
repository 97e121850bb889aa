#!/usr/bin/env bash
# Install the real servers the tests talk to: Prometheus and promtool.
set -euo pipefail

missing() { ! command -v prometheus >/dev/null || ! command -v promtool >/dev/null; }

missing || exit 0

if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  export DEBIAN_FRONTEND=noninteractive
  { apt-get -q update && apt-get -q install -y --no-install-recommends prometheus; } >"$log" 2>&1 || tail -n 20 "$log" >&2
fi

if missing; then
  echo "The tests need Prometheus: install it so that 'prometheus' and 'promtool' are on PATH." >&2
  exit 2
fi
