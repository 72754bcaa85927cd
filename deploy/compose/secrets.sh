#!/usr/bin/env bash
# secrets.sh: makes the secrets of compose.yaml that are missing, each readable by the one user that needs it. Run as root.
# Shows none, changes none that is there. Exit status 2: not root, or openssl is missing.
set -euo pipefail
umask 077

[ "$(id -u)" = 0 ] || { echo "run this as root: each secret belongs to the user of its container" >&2; exit 2; }
command -v openssl > /dev/null || { echo "openssl is missing: apt-get install openssl" >&2; exit 2; }
cd "$(dirname "$0")"

FIRERUNNER=10001 # deploy/docker/Dockerfile
POSTGRES=999     # the images' own users
GRAFANA=472

# make FILE OWNER COMMAND...: its content is what the command prints; there is no half of it, ever.
make() {
    if [ -e "$1" ]; then
        echo "$1: there already"
        return
    fi
    "${@:3}" > "$1.new"
    chown "$2:$2" "$1.new"
    mv "$1.new" "$1"
    echo "$1: made"
}

database_url() {
    local password
    password=$(cat secrets/postgres-password)
    echo "postgresql://firerunner:$password@postgres/firerunner"
}

install -d -m 0711 secrets
make secrets/postgres-password "$POSTGRES" openssl rand -hex 32
make secrets/grafana-password "$GRAFANA" openssl rand -hex 32
make firerunner/database-url "$FIRERUNNER" database_url
for name in webhook-secret api-read api-operate; do
    make "firerunner/$name" "$FIRERUNNER" openssl rand -hex 32
done
# `firerunner gitlab setup` writes tokens here, and the service reads here.
chown "$FIRERUNNER:$FIRERUNNER" firerunner
