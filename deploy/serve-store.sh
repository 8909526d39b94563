#!/bin/sh
# Serves /objects as S3, whose keys are in the environment; a folder there is a bucket.
set -eu
mkdir -p /objects/archprior
# By the environment, where other processes do not see it; a list of pairs, and a pair with its comma stands in quotes.
RCLONE_AUTH_KEY="\"$AWS_ACCESS_KEY_ID,$AWS_SECRET_ACCESS_KEY\""
export RCLONE_AUTH_KEY
# Without hashes, for which it would read every large object whole before it says a word of it.
exec rclone serve s3 --etag-hash "" --addr :9000 --config /dev/null /objects
