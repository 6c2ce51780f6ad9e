#!/bin/sh
# Makes what docker-compose.yml needs, once: random passwords of the broker's users, the API token and
# the key that supervisors sign with, as files in ./secrets (or $SELFHEAL_SECRETS_DIR), and the group
# that owns the Docker socket, in .env. What is there is left alone. With --print the variables go to
# standard output instead of into .env.
#
# The directory is for its owner alone. The files in it are read by the containers, which run as other
# users: so they may be read by whoever can enter the directory, and compose mounts each only where it
# is needed.
set -eu
cd "$(dirname "$0")/.."
umask 077

dir=${SELFHEAL_SECRETS_DIR:-./secrets}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
chmod 0700 "$dir"

# A letter first: the broker reads a word of digits as a number.
random() {
  printf 's'
  od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

# Writes a file whole, or not at all.
put() {
  cat >"$dir/$1.new"
  chmod 0444 "$dir/$1.new"
  mv "$dir/$1.new" "$dir/$1"
}

key() {
  rm -f "$dir/signing_key.new"
  if command -v selfheal >/dev/null 2>&1; then
    selfheal key new "$dir/signing_key.new"
  else
    image=selfheal:${SELFHEAL_VERSION:-dev}
    if ! docker image inspect "$image" >/dev/null 2>&1; then
      DOCKER_GID=$gid docker compose build db >&2
    fi
    docker run --rm --network none --user "$(id -u):$(id -g)" --volume "$dir:/secrets" "$image" \
      selfheal key new /secrets/signing_key.new
  fi
}

socket=${DOCKER_SOCKET:-/var/run/docker.sock}
# GNU, then BSD. In Docker Desktop the socket that containers see belongs to group 0.
gid=0
if [ "$(uname)" = Linux ]; then
  gid=$(stat -c %g "$socket" 2>/dev/null || stat -f %g "$socket")
fi

if [ ! -e "$dir/signing_key" ]; then
  public=$(key)
  chmod 0444 "$dir/signing_key.new"
  printf '%s\n' "$public" | put trusted_keys
  # Last, so that a run that was interrupted begins again.
  mv "$dir/signing_key.new" "$dir/signing_key"
fi
if [ ! -e "$dir/api_token" ]; then
  random | put api_token
fi
# The broker's passwords and the URLs that hold them belong together.
if [ ! -e "$dir/broker_passwords" ]; then
  passwords=
  for user in supervisor monitor analyzer fixer gateway cli publisher; do
    password=$(random)
    name=NATS_$(echo "$user" | tr '[:lower:]' '[:upper:]')_PASSWORD
    passwords="$passwords$name=$password
"
    printf 'nats://%s:%s@nats:4222\n' "$user" "$password" | put "nats_url_$user"
  done
  printf '%s' "$passwords" | put broker_passwords
fi

variables() {
  echo "DOCKER_GID=$gid"
  if [ -n "${SELFHEAL_SECRETS_DIR-}" ]; then
    echo "SELFHEAL_SECRETS_DIR=$dir"
  fi
}

if [ "${1-}" = --print ]; then
  variables
elif ! grep -q '^DOCKER_GID=' .env 2>/dev/null; then
  variables >>.env
fi
echo "the secrets are in $dir; now: docker compose up --detach --wait" >&2
