#!/usr/bin/env python3
"""Writes src/base/testdata/quant_blocks.bin: blocks of every block format with the numbers that gguf.quants makes of
them, and numbers with the q8_0 and q4_0 blocks that it makes of those. Needs PyPI's gguf (made with 0.19).

Little-endian. For each format of `formats`: uint32 n, n blocks, n * block length float32. Then 64 float32, their two
q8_0 blocks, their two q4_0 blocks.
"""
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type, quants

formats = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL"]
# Byte offsets of the halves (scale, minimum) in a block.
halves = {"Q4_1": [0, 2], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def main():
    rng = np.random.default_rng(1)
    out = bytearray()
    for name in formats:
        length, size = GGML_QUANT_SIZES[Type[name]]
        n = 2 if length == 256 else 4
        blocks = rng.integers(0, 256, (n, size), dtype=np.uint8)
        for at in halves.get(name, [0]):
            blocks[:, at : at + 2] = rng.normal(0, 0.02, (n, 1)).astype(np.float16).view(np.uint8)
        values = quants.dequantize(blocks, Type[name]).astype("<f4")
        assert values.size == n * length and np.isfinite(values).all()
        out += np.uint32(n).tobytes() + blocks.tobytes() + values.tobytes()
    values = rng.normal(0, 0.02, (1, 64)).astype("<f4")
    out += values.tobytes()
    for name in ["Q8_0", "Q4_0"]:
        out += quants.quantize(values, Type[name]).tobytes()
    path = Path(__file__).resolve().parent.parent / "src/base/testdata/quant_blocks.bin"
    path.write_bytes(out)
    print(path, len(out), "bytes")


main()
