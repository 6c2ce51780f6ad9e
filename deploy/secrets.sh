#!/bin/sh
# Writes .env for docker-compose.yml: the API token and one password for each user of the broker, all
# random, and the group that owns the Docker socket. An .env that is there is left alone.
# With --print they go to standard output instead, and no file is written.
set -eu
cd "$(dirname "$0")/.."

if [ "${1-}" != --print ] && [ -e .env ]; then
  echo '.env is there already; remove it to have new secrets made' >&2
  exit 0
fi

# A letter first: the broker reads a word of digits as a number.
random() {
  printf 's'
  od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

socket=${DOCKER_SOCKET:-/var/run/docker.sock}
# GNU, then BSD. In Docker Desktop the socket that containers see belongs to group 0.
gid=0
if [ "$(uname)" = Linux ]; then
  gid=$(stat -c %g "$socket" 2>/dev/null || stat -f %g "$socket")
fi

secrets() {
  echo "SELFHEAL_API_TOKEN=$(random)"
  for user in SUPERVISOR MONITOR ANALYZER FIXER GATEWAY CLI PUBLISHER; do
    echo "NATS_${user}_PASSWORD=$(random)"
  done
  echo "DOCKER_GID=$gid"
}

if [ "${1-}" = --print ]; then
  secrets
  exit 0
fi
umask 077
secrets >.env.new
mv .env.new .env
echo '.env is written; now: docker compose up --detach --wait'
