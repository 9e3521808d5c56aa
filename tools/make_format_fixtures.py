#!/usr/bin/env python3
"""Writes src/formats/testdata/: small checkpoints as PyTorch itself saves them, in every form that the readers know.

Needs torch; the committed files were made with 2.15. The expected values stand in src/formats/torch_files_test.cpp:
change both together. fuzz/corpus/pth has copies of some of these files.
"""
import sys
from collections import OrderedDict
from pathlib import Path

import torch


def count(start, shape, dtype):
    n = 1
    for d in shape:
        n *= d
    return torch.arange(start, start + n, dtype=torch.float64).reshape(shape).to(dtype)


def weights():
    base = count(100, (4, 6), torch.float32)
    d = OrderedDict()
    d["bf16"] = count(1, (2, 3), torch.bfloat16)
    d["fp16"] = count(10, (1, 1, 5), torch.float16)
    d["fp32"] = count(20, (3,), torch.float32)
    d["transposed"] = count(0, (3, 4), torch.bfloat16).t()
    d["base"] = base
    d["base.rows"] = base[1:3]
    d["base.columns"] = base[:, 2:5:2]
    d["expanded"] = count(7, (1, 1), torch.float16).expand(2, 3)
    d["scalar"] = torch.tensor(42.5)
    d["empty"] = torch.zeros(3, 0)
    d["parameter"] = torch.nn.Parameter(count(30, (2, 2), torch.float32))
    d["fp64"] = count(40, (2,), torch.float64)
    d["int64"] = count(50, (2,), torch.int64)
    d["int32"] = count(52, (2,), torch.int32)
    d["int16"] = count(54, (2,), torch.int16)
    d["int8"] = count(56, (2,), torch.int8)
    d["uint8"] = count(58, (2,), torch.uint8)
    d["bool"] = torch.tensor([True, False])
    d["_strategy"] = "cuda fp16i8"
    d["_version"] = 0.7
    d["_rescale_layer"] = 6
    d["_converted"] = True
    return d


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(weights(), folder / "zip.pth")
    torch.save(weights(), folder / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(weights(), folder / "protocol4.pth", pickle_protocol=4)
    torch.save(weights(), folder / "legacy_protocol5.pth", pickle_protocol=5, _use_new_zipfile_serialization=False)

    model = torch.nn.Linear(2, 3)
    with torch.no_grad():
        model.weight.copy_(count(1, (3, 2), torch.float32))
        model.bias.copy_(count(7, (3,), torch.float32))
    torch.save({"epoch": 3, "state_dict": model.state_dict(), "losses": [1.0, 0.5]}, folder / "wrapped.pth")
    torch.save(model, folder / "whole_module.pth")
    torch.save({"x": count(1, (2,), torch.float32).to(torch.float8_e4m3fn)}, folder / "float8.pth")
    torch.save([count(1, (2,), torch.float32)], folder / "list.pth")
    torch.serialization.set_crc32_options(False)
    torch.save(weights(), folder / "no_crc.pth")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "src/formats/testdata")
