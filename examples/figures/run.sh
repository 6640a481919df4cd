#!/usr/bin/env bash
# Measures what the notes quote, and prints one line a figure: size, start to first committed row, memory of a mirror
# under load, and the snapshot of a table as a share of PostgreSQL's own COPY to a reader that throws it away.
#
#   LAKEHEAD=target/release/lakehead ROWS=5000000 ./run.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
lakehead=${LAKEHEAD:-lakehead}
rows=${ROWS:-5000000}
load=${SECONDS_OF_LOAD:-20}
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1 || true)
bin=${bin:-$(dirname "$(command -v pg_ctl)")}
work=$(mktemp -d "${TMPDIR:-/tmp}/lakehead-figures-XXXXXX")
chmod 755 "$work"
server=$work/server
mkdir -p "$server" "$work/project"
as=()
if [ "$(id -u)" = 0 ]; then chown postgres "$server"; as=(setpriv --reuid=postgres --regid=postgres --clear-groups); fi
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
finish() {
  (cd / && "${as[@]}" "$bin/pg_ctl" -s -m immediate stop -D "$server/data") >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap finish EXIT
now() { python3 -c 'import time; print(time.monotonic())'; }
since() { python3 -c "import sys, time; print(f'{time.monotonic() - float(sys.argv[1]):.2f}')" "$1"; }

echo "binary                          $(du -m "$(command -v "$lakehead")" | cut -f1) MB"
cp "$here/../demo/demo.lake" "$here/../demo/lakehead.toml" "$work/project/"
cp -r "$here/../demo/samples" "$work/project/"
cd "$work/project"
t=$(now); "$lakehead" run shop_changes --quiet; echo "demo, start to end              $(since "$t") s (goal: first committed row within 2 s)"

cd /
"${as[@]}" "$bin/initdb" -A trust -E UTF8 -U postgres --no-sync -D "$server/data" >/dev/null
cat >> "$server/data/postgresql.auto.conf" <<CONF
port = $port
listen_addresses = '127.0.0.1'
unix_socket_directories = '$server'
wal_level = logical
fsync = off
shared_buffers = 1GB
max_wal_size = 8GB
CONF
"${as[@]}" "$bin/pg_ctl" -w -s start -D "$server/data" -l "$server/log"
psql() { "$bin/psql" -qAt -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U postgres "$@"; }
psql -c "create database bench"
scale=$((rows / 100000)); [ "$scale" -gt 0 ] || scale=1
"$bin/pgbench" -q -i -s "$scale" -h 127.0.0.1 -p "$port" -U postgres bench 2>/dev/null
mkdir -p "$work/snap"
cat > "$work/snap/lakehead.toml" <<CONF
name = "snap"
edition = 1
CONF
cat > "$work/snap/p.lake" <<CONF
connection bench postgres { host = "127.0.0.1", port = $port, database = "bench", user = "postgres", tls = disabled }
connection lake delta { path = "lake" }
pipeline snap {
  source bench { capture = snapshot, tables = ["public.pgbench_accounts"] }
  sink lake { table = "accounts", mode = append }
}
CONF
cd "$work/snap"
"$lakehead" lock --quiet
psql -d bench -c "select count(*) from pgbench_accounts" >/dev/null
for n in 1 2 3; do
  t=$(now); psql -d bench -c "copy pgbench_accounts to stdout (format binary)" >/dev/null; copy=$(since "$t")
  rm -rf lake .lakehead
  t=$(now); /usr/bin/env time -f "%M %U %S" -o "$work/time" "$lakehead" run snap --quiet; ours=$(since "$t")
  read -r rss user system < "$work/time"
  python3 -c "print(f'snapshot of $rows rows, run $n      COPY $copy s, lakehead $ours s: {100 * $copy / $ours:.0f} % of raw COPY; RSS {$rss // 1024} MiB, CPU {$user + $system:.2f} s')"
done

mkdir -p "$work/mirror"
cp "$here/../postgres_mirror/mirror.lake" "$here/../postgres_mirror/lakehead.toml" "$work/mirror/"
sed -i "s/port     = 5432/port     = $port/; s/user     = \"lakehead\"/user     = \"postgres\"/" "$work/mirror/mirror.lake"
psql -c "create database small"
"$bin/pgbench" -q -i -s 1 -h 127.0.0.1 -p "$port" -U postgres small 2>/dev/null
sed -i 's/database = "bench"/database = "small"/' "$work/mirror/mirror.lake"
cd "$work/mirror"
export PGPASSWORD=x
"$lakehead" lock --quiet
/usr/bin/env time -f "%M" -o "$work/time" "$lakehead" run mirror --quiet &
mirror=$!
"$bin/pgbench" -n -T "$load" -c 4 -R "${RATE:-500}" -h 127.0.0.1 -p "$port" -U postgres small >/dev/null 2>&1
pkill -INT -P "$mirror" || true
wait "$mirror" || true
echo "mirror under load, peak RSS     $(($(cat "$work/time") / 1024)) MiB (goal 256 MiB)"
