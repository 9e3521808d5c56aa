#!/usr/bin/env bash
# Compares exported ONNX models, run by the PyPI package onnxruntime, with the cpu backend. Needs PyPI once; the environment
# is kept in out/onnx_peers. run.sh [FRWKV]: the program, out/release/bin/frwkv when left out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
venv=${FRWKV_ONNX_VENV:-out/onnx_peers}
if [ ! -x "$venv/bin/python" ]; then
  python3 -m venv "$venv"
fi
"$venv/bin/python" -c 'import numpy, onnx, onnxruntime' 2>/dev/null ||
  "$venv/bin/pip" install --quiet --disable-pip-version-check numpy onnx onnxruntime
"$venv/bin/python" tests/onnx/compare.py "${1:-out/release/bin/frwkv}"
