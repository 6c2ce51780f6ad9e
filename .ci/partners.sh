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

# A provider of OpenID Connect, with a Python of its own.
if ! command -v oidc-provider-mock >/dev/null && [ ! -x .tools/oidc/bin/oidc-provider-mock ]; then
  echo 'installing: oidc-provider-mock'
  python3 -m venv .tools/oidc
  .tools/oidc/bin/pip -q install 'oidc-provider-mock==0.3.4'
fi
