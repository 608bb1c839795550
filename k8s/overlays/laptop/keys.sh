#!/bin/sh
# Makes the secrets of this overlay in ./secrets, those that are missing; what exists is kept.
#   ./keys.sh [COMMAND…]   COMMAND runs the assent binary (default: assent)
set -eu
cd "$(dirname "$0")"
[ $# -gt 0 ] || set -- assent
umask 077
mkdir -p secrets/databases
"$@" keys init --sandbox secrets
password=$(cat secrets/sandbox/postgres-password)
for database in consent vault vault_keys messaging messaging_keys erasure projector; do
    printf 'postgres://postgres:%s@postgres/assent_%s' "$password" "$database" > "secrets/databases/$database"
done
