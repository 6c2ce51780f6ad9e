#!/usr/bin/env bash
# Installs the programs of others that tests talk to, on a bare machine. What is there is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

schemathesis=4.32.5

packages=()
command -v promtool >/dev/null || packages+=(prometheus)
command -v prometheus-alertmanager >/dev/null || packages+=(prometheus-alertmanager)
python3 -m venv --help >/dev/null 2>&1 && python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
# Targets that many people run, for tests/tests/kinds.rs.
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || packages+=(postgresql)
[ -x /usr/bin/redis-server ] || packages+=(redis-server)
[ -x /usr/sbin/nginx ] || packages+=(nginx-light)
[ -x /usr/bin/gunicorn ] || packages+=(gunicorn)
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

# What judges notices: Slack's and Teams' own libraries, and a mail server.
notices=.tools/notices
if [ ! -x "$notices/python/bin/python" ]; then
  python3 -m venv "$notices/python"
fi
"$notices/python/bin/pip" --quiet install slack_sdk==3.48.0 aiosmtpd==1.4.6
if [ ! -d "$notices/node_modules/adaptivecards" ]; then
  command -v npm >/dev/null || { apt-get -qq update && apt-get -qq install -y --no-install-recommends nodejs npm >/dev/null; }
  npm install --silent --no-audit --no-fund --prefix "$notices" adaptivecards@3.0.6
fi

# Makes requests from the OpenAPI document and judges the answers.
if ! .tools/schemathesis/bin/schemathesis --version 2>/dev/null | grep -qF "$schemathesis"; then
  echo "installing: schemathesis $schemathesis"
  rm -rf .tools/schemathesis
  python3 -m venv .tools/schemathesis
  .tools/schemathesis/bin/pip -q --disable-pip-version-check install "schemathesis==$schemathesis" -c .ci/schemathesis.txt
fi
