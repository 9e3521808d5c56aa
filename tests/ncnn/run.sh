#!/usr/bin/env bash
# Compares exports with the CPU backend through PyPI's ncnn, the one that other people's programs use. Needs PyPI once;
# the environment is kept in out/peers-ncnn.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
venv=out/peers-ncnn
if [ ! -x "$venv/bin/python" ]; then
  python3 -m venv "$venv"
fi
"$venv/bin/pip" install --quiet --disable-pip-version-check numpy ncnn
"$venv/bin/python" tests/ncnn/compare.py out/release/bin/frwkv "$@"
