#!/bin/sh
# Makes the secrets of the local overlay, each once, at random: what is there stays. Ray's token is KubeRay's to make.
set -eu
namespace=${1:-archprior}
random() { python3 -c 'import secrets; print(secrets.token_hex(32), end="")'; }
missing() { ! kubectl --namespace "$namespace" get secret "$1" > /dev/null 2>&1; }
# By files, not by arguments, which other processes see.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
create() { kubectl --namespace "$namespace" create secret generic "$1" --from-file="$folder/$1"; rm -r "${folder:?}/$1"; }

if missing archprior-postgres; then
	mkdir archprior-postgres archprior-database
	random > archprior-postgres/password
	printf 'postgresql+psycopg://archprior:%s@postgres/archprior' "$(cat archprior-postgres/password)" \
		> archprior-database/url
	create archprior-postgres
	create archprior-database
fi
if missing archprior-redis; then
	mkdir archprior-redis
	random > archprior-redis/password
	create archprior-redis
fi
if missing archprior-store; then
	mkdir archprior-store
	random > archprior-store/AWS_ACCESS_KEY_ID
	random > archprior-store/AWS_SECRET_ACCESS_KEY
	create archprior-store
fi
