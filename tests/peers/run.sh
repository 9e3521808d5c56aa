#!/usr/bin/env bash
# Compares the built programs with the official Python packages: rwkv (tokenizer), safetensors, gguf. Needs PyPI once; the
# environment is kept in out/peers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
venv=out/peers
if [ ! -x "$venv/bin/python" ]; then
  python3 -m venv "$venv"
fi
"$venv/bin/pip" install --quiet --disable-pip-version-check numpy safetensors gguf
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps rwkv
"$venv/bin/python" tests/peers/compare.py out/release/bin/frwkv
