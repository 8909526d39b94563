#!/bin/sh
# Writes the secrets of a cluster on one machine, each once: what is there stays.
set -eu
umask 077
for name in ray_token s3_access_key s3_secret_key postgres_password; do
	if [ ! -s "/secrets/$name" ]; then
		python3 -c 'import secrets; print(secrets.token_hex(32), end="")' > "/secrets/$name.new"
		mv "/secrets/$name.new" "/secrets/$name"
	fi
done
# As libpq reads it: a URL names this file and no password.
printf 'postgres:5432:archprior:archprior:%s' "$(cat /secrets/postgres_password)" > /secrets/pgpass.new
mv /secrets/pgpass.new /secrets/pgpass
