#!/usr/bin/env bash
# run.sh BUILD SOURCE: installs BUILD into a temporary prefix, moves the prefix (nothing may depend on its path), builds
# the consumer against it and checks what it prints.
set -euo pipefail
build=$1 source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$build" --prefix "$work/first" >/dev/null
mv "$work/first" "$work/prefix"
cmake -S "$source/tests/install" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_BUILD_TYPE=Release >/dev/null
cmake --build "$work/build" >/dev/null
out=$("$work/build/consumer")
echo "$out"
[ "$out" = " girl named Lily. She loved to play with her toys all day long." ]
"$work/prefix/bin/frwkv" --version >/dev/null
env -C / "$work/prefix/bin/frwkv" info >/dev/null
