#!/bin/sh
# Runs a command with the store's keys from the secrets' volume, where nobody has given others.
set -eu
if [ -z "${AWS_ACCESS_KEY_ID:-}" ] && [ -r /secrets/s3_access_key ]; then
	AWS_ACCESS_KEY_ID=$(cat /secrets/s3_access_key)
	AWS_SECRET_ACCESS_KEY=$(cat /secrets/s3_secret_key)
	export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
fi
exec "$@"
