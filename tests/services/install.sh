#!/usr/bin/env bash
# Install the real servers the tests talk to.
set -euo pipefail

programs=(prometheus promtool prometheus-alertmanager amtool redis-server redis-sentinel redis-cli chromium valgrind)
packages=(prometheus prometheus-alertmanager redis-server redis-sentinel redis-tools chromium fonts-dejavu-core valgrind)

missing() {
  local program
  for program in "${programs[@]}"; do command -v "$program" >/dev/null || echo "$program"; done
}

[[ -n $(missing) ]] || exit 0

if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  export DEBIAN_FRONTEND=noninteractive
  { apt-get -q update && apt-get -q install -y --no-install-recommends "${packages[@]}"; } >"$log" 2>&1 || tail -n 20 "$log" >&2
fi

if [[ -n $(missing) ]]; then
  echo "The tests need these programs on PATH:" $(missing) >&2
  exit 2
fi
