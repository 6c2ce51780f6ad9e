#!/usr/bin/env bash
# Makes the base images under their usual names on a machine that reaches package registries but no
# image registry: Debian from its packages, NATS from the same server that the tests use.
# An image that is there is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

missing() {
  ! docker image inspect "$1" >/dev/null 2>&1
}

needs() {
  if ! command -v "$1" >/dev/null; then
    echo "installing $2"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$2" >/dev/null
  fi
}

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

if missing debian:bookworm-slim; then
  echo 'building debian:bookworm-slim'
  needs debootstrap debootstrap
  root=$dir/bookworm
  if ! debootstrap --variant=minbase --include=ca-certificates bookworm "$root" >"$dir/log" 2>&1; then
    tail -20 "$dir/log" >&2
    exit 1
  fi
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/*
  tar -C "$root" -c . | docker import - debian:bookworm-slim >/dev/null
fi

if missing nats:2.15.1-alpine; then
  echo 'building nats:2.15.1-alpine'
  needs busybox busybox-static
  context=$dir/nats
  mkdir -p "$context"
  cp "$(command -v busybox)" "$context/busybox"
  cp "$(cargo xtask nats)" "$context/nats-server"
  # As in the official image: options alone are given to the server.
  cat >"$context/docker-entrypoint.sh" <<'SCRIPT'
#!/bin/sh
set -e
case "$1" in -*) set -- nats-server "$@" ;; esac
exec "$@"
SCRIPT
  chmod 755 "$context"/*
  cat >"$context/Dockerfile" <<'DOCKERFILE'
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "mkdir", "-p", "/usr/bin", "/usr/sbin", "/sbin", "/tmp", "/usr/local/bin"]
RUN ["/bin/busybox", "--install", "-s"]
COPY nats-server docker-entrypoint.sh /usr/local/bin/
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
EXPOSE 4222 8222 6222
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["nats-server", "--port", "4222", "--http_port", "8222"]
DOCKERFILE
  # The classic builder: it needs nothing from outside. It says on stderr that it is old.
  DOCKER_BUILDKIT=0 docker build --quiet --tag nats:2.15.1-alpine "$context" >"$dir/log" 2>&1 ||
    { cat "$dir/log" >&2; exit 1; }
fi
echo "images: debian:bookworm-slim, nats:2.15.1-alpine"
