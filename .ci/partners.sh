#!/usr/bin/env bash
# Installs the programs of others that tests talk to, on a bare machine. What is there is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

schemathesis=4.32.5

packages=()
command -v promtool >/dev/null || packages+=(prometheus)
command -v prometheus-alertmanager >/dev/null || packages+=(prometheus-alertmanager)
python3 -m venv --help >/dev/null 2>&1 && python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
if [ ${#packages[@]} -ne 0 ]; then
  echo "installing: ${packages[*]}"
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${packages[@]}" >/dev/null
fi

# Makes requests from the OpenAPI document and judges the answers.
if ! .tools/schemathesis/bin/schemathesis --version 2>/dev/null | grep -qF "$schemathesis"; then
  echo "installing: schemathesis $schemathesis"
  rm -rf .tools/schemathesis
  python3 -m venv .tools/schemathesis
  .tools/schemathesis/bin/pip -q --disable-pip-version-check install "schemathesis==$schemathesis" -c .ci/schemathesis.txt
fi
