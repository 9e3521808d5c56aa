#!/usr/bin/env bash
# llama.cpp runs the GGUF files that frwkv convert writes: the shipped model in every number format, its logits compared
# with those of frwkv on the same file. Builds llama-cpp-python from PyPI once (about 15 minutes), into out/llama.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
venv=out/llama frwkv=out/release/bin/frwkv model=models/rwkv7-story-9m
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check numpy llama-cpp-python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tokens=$(printf 'Once upon a time, there was a little girl named Anna. She had a small dog. One day it rained, and the dog ran away.' |
  "$frwkv" tokenize --vocab "$model.vocab.txt" | tr -d '[]')
rc=0
for pair in fp16:5e-3 bf16:5e-3 q8_0:2e-2 q4_0:2e-2 q4_k:2e-2; do
  gguf=$work/${pair%:*}.gguf
  "$frwkv" convert "$model.pth" "$gguf" --dtype "${pair%:*}" --no-check >/dev/null
  "$venv/bin/python" tests/peers/llama.py "$frwkv" "$gguf" --tokens "$tokens" --limit "${pair#*:}" || rc=1
done
exit $rc
