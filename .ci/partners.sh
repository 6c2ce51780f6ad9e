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

# Client libraries of PagerDuty, for tests/tests/pagerduty.rs.
if ! .tools/clients/bin/python -c 'import pagerduty, pdpyras' 2>/dev/null; then
  echo "installing: client libraries of PagerDuty"
  python3 -m venv .tools/clients || {
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends python3-venv >/dev/null
    python3 -m venv .tools/clients
  }
  .tools/clients/bin/pip install --quiet --disable-pip-version-check pagerduty==7.2.0 pdpyras==5.4.1
fi
