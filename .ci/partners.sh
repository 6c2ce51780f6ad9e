#!/usr/bin/env bash
# Installs the programs of others that tests talk to, on a bare machine. What is there is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=()
command -v promtool >/dev/null || packages+=(prometheus)
command -v prometheus-alertmanager >/dev/null || packages+=(prometheus-alertmanager)
if [ ${#packages[@]} -ne 0 ]; then
  echo "installing: ${packages[*]}"
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${packages[@]}" >/dev/null
fi
