#!/usr/bin/env bash
# fuzz_all.sh BUILD SECONDS: runs every libFuzzer program of a build, starting from a copy of its corpus.
set -euo pipefail
build=$1 seconds=$2
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for fuzzer in "$build"/fuzz/fuzz_*; do
  [ -x "$fuzzer" ] || continue
  name=${fuzzer##*/fuzz_}
  cp -r "$source/fuzz/corpus/$name" "$work/$name"
  echo "fuzzing $name for $seconds seconds"
  "$fuzzer" "$work/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=0 \
    -artifact_prefix="$build/crash-$name-" >"$work/$name.log" 2>&1 || { tail -40 "$work/$name.log"; exit 1; }
done
