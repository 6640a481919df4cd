#!/usr/bin/env bash
# Starts a throwaway PostgreSQL, runs pgbench with a live mirror of its four tables, kills lakehead with -9 while the
# load runs, and then proves that source and lake are equal, with lakehead's own `verify` and with two other readers.
#
#   KILLS=20 SECONDS_OF_LOAD=40 SCALE=1 ./run.sh         LAKEHEAD names the binary; PYTHON one with duckdb and polars
#   STORE=moto ./run.sh                                  into a bucket of moto, an imitation of S3 in Python
#   STORE=versitygw ./run.sh                             into a bucket of versitygw, an S3 server (VERSITYGW names it)
#   KILLS=300 SECONDS_OF_LOAD=480 STORE=versitygw ./run.sh
#
# With STORE, PYTHON is one with moto, boto3, polars and deltalake.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
kills=${KILLS:-20}
load=${SECONDS_OF_LOAD:-40}
scale=${SCALE:-1}
lakehead=${LAKEHEAD:-lakehead}
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1 || true)
bin=${bin:-$(dirname "$(command -v pg_ctl)")}
work=$(mktemp -d "${TMPDIR:-/tmp}/lakehead-mirror-XXXXXX")
chmod 755 "$work"
server=$work/server
project=$work/project
mkdir -p "$server" "$project"
as=()
if [ "$(id -u)" = 0 ]; then chown postgres "$server"; as=(setpriv --reuid=postgres --regid=postgres --clear-groups); fi
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mirror=
store=
finish() {
  [ -n "$mirror" ] && kill -9 "$mirror" 2>/dev/null || true
  [ -n "$store" ] && kill "$store" 2>/dev/null || true
  (cd / && "${as[@]}" "$bin/pg_ctl" -s -m immediate stop -D "$server/data") >/dev/null 2>&1 || true
  [ -n "${KEEP:-}" ] || rm -rf "$work"
}
trap finish EXIT

cd /
"${as[@]}" "$bin/initdb" -A trust -E UTF8 -U postgres --no-sync -D "$server/data" >/dev/null
cat >> "$server/data/postgresql.auto.conf" <<CONF
port = $port
listen_addresses = '127.0.0.1'
unix_socket_directories = '$server'
wal_level = logical
fsync = off
max_replication_slots = 10
max_wal_senders = 10
CONF
"${as[@]}" "$bin/pg_ctl" -w -s start -D "$server/data" -l "$server/log"
psql() { "$bin/psql" -qAt -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U postgres "$@"; }
psql -c "create role lakehead login replication password 'bench'" -c "create database bench"
"$bin/pgbench" -q -i -s "$scale" -h 127.0.0.1 -p "$port" -U postgres bench 2>/dev/null
# What the database administrator does once: rights, and a publication that lets keyless tables stay writable.
psql -d bench -c "grant usage on schema public to lakehead; grant select on all tables in schema public to lakehead" \
  -c "create publication lakehead_mirror for table pgbench_accounts, pgbench_branches, pgbench_tellers" \
  -c "create publication lakehead_mirror_inserts for table pgbench_history with (publish = 'insert, truncate')"

cp "$here/mirror.lake" "$here/lakehead.toml" "$project/"
sed -i "s/port     = 5432/port     = $port/" "$project/mirror.lake"
lake=$project/lake
if [ -n "${STORE:-}" ]; then
  s3=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  mkdir "$work/objects"
  # The keys are the server's own and go with it; lakehead finds them where it always does, in the environment.
  export AWS_ACCESS_KEY_ID=lakehead AWS_SECRET_ACCESS_KEY=lakehead-secret AWS_REGION=us-east-1
  export AWS_ENDPOINT_URL=http://127.0.0.1:$s3 AWS_ALLOW_HTTP=true
  case $STORE in
    moto) "$PYTHON" -m moto.server -H 127.0.0.1 -p "$s3" >"$work/store.log" 2>&1 & ;;
    versitygw)
      ROOT_ACCESS_KEY=$AWS_ACCESS_KEY_ID ROOT_SECRET_KEY=$AWS_SECRET_ACCESS_KEY \
        "${VERSITYGW:-versitygw}" --port "127.0.0.1:$s3" --quiet posix "$work/objects" >"$work/store.log" 2>&1 & ;;
    *) echo "STORE is moto or versitygw" >&2; exit 2 ;;
  esac
  store=$!
  "$PYTHON" - <<'PY'
import time

import boto3

for attempt in range(100):
    try:
        boto3.client("s3").create_bucket(Bucket="mirror")
        break
    except Exception:
        if attempt == 99:
            raise
        time.sleep(0.2)
PY
  lake=s3://mirror/lake
  sed -i "s#path = \"lake\"#path = \"$lake\"#" "$project/mirror.lake"
fi
cd "$project"
export PGPASSWORD=bench
"$lakehead" lock
"$lakehead" check --quiet
echo "server on port $port, project in $project, lake in $lake"

"$bin/pgbench" -n -T "$load" -c 4 -j 1 -R "${RATE:-300}" -h 127.0.0.1 -p "$port" -U postgres bench >"$work/pgbench.log" 2>&1 &
bench=$!
killed=0
for _ in $(seq "$kills"); do
  "$lakehead" run mirror --quiet >>"$work/mirror.log" 2>&1 &
  mirror=$!
  sleep "$(python3 -c 'import random; print(random.uniform(0.15, 2.5))')"
  if kill -9 "$mirror" 2>/dev/null; then killed=$((killed + 1)); else echo "the mirror ended by itself:"; tail -12 "$work/mirror.log"; exit 1; fi
  wait "$mirror" 2>/dev/null || true
  mirror=
done
wait "$bench"
grep -E "number of transactions actually processed|tps" "$work/pgbench.log"
echo "killed $killed times with -9"

"$lakehead" run mirror --until caught-up
"$lakehead" verify mirror
if [ -n "${PYTHON:-}" ]; then "$PYTHON" "$here/readers.py" "$lake" "$port"; fi
