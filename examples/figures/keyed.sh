#!/usr/bin/env bash
# What keyed tables cost (B3, B4, B11 of the project's benchmarks), beside delta-rs over copies of the same tables, in one
# run. CPU seconds of whole processes for lakehead, of the operation alone for delta-rs.
#
#   KEYED=the-keyed-benchmark PYTHON=python-with-deltalake-duckdb-polars examples/figures/keyed.sh
#
# ROWS (4000000), ROUNDS (1000) of 2,000 changes, FILES (2000) of 1,500 rows, GROUPS_FILES (64) of 131,072, SIZES (1000000 10000000), COMMITS (20000).
# The benchmark is built by: cargo build --release --workspace --bench keyed
set -euo pipefail
cd "$(dirname "$0")"
keyed=$(realpath "${KEYED:?the keyed benchmark, target/release/deps/keyed-…}")
python=${PYTHON:?a Python with deltalake, duckdb and polars}
peer=$(realpath keyed_peer.py)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "load: $(cut -d' ' -f1-3 /proc/loadavg), cores: $(nproc)"

mkdir "$work/upserts"
"$keyed" upserts "$work/upserts" "${ROWS:-4000000}" "${ROUNDS:-1000}"
"$python" "$peer" merge "$work/upserts/lake/base" "${ROWS:-4000000}"
"$python" "$peer" scan "$work/upserts/lake/t"
rm -rf "$work/upserts"

mkdir "$work/files"
"$keyed" files "$work/files" "${FILES:-2000}"
# Of 1,000 files with deletion vectors delta-rs 1.x makes no end: it is asked for the whole ones.
"$python" "$peer" optimize "$work/files/lake/whole-copy" "$work/files/lake/whole"
rm -rf "$work/files"

# Row groups of 128 Ki rows are copied, not decoded.
mkdir "$work/groups"
"$keyed" files "$work/groups" "${GROUPS_FILES:-64}" 131072
"$python" "$peer" optimize "$work/groups/lake/whole-copy" "$work/groups/lake/whole"
rm -rf "$work/groups"

for rows in ${SIZES:-1000000 10000000}; do
  mkdir "$work/size"
  "$keyed" upserts "$work/size" "$rows" 100
  rm -rf "$work/size"
done
mkdir "$work/history"
"$keyed" history "$work/history" "${COMMITS:-20000}"
