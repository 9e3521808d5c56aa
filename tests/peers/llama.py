"""Runs a GGUF file with llama.cpp and with frwkv and compares the logits of all positions.

    python3 tests/peers/llama.py FRWKV GGUF [REFERENCE] [--tokens 1,2,3 | --count N] [--limit 0.02]

REFERENCE (a .pth, .safetensors, ...) is what frwkv runs instead of the GGUF file: the cost of the number format is then
in the difference too. Needs llama-cpp-python. Prints the relative L2 distance over all positions, the worst position and
how often the best token is the same; exits with 1 above the limit.
"""
import argparse
import ctypes
import json
import pathlib
import subprocess
import sys
import tempfile

import llama_cpp
import numpy


def llama_logits(path, tokens, batch_size):
    """[len(tokens), n_vocab], in batches of batch_size tokens."""
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p())
    llama_cpp.llama_backend_init()
    model_params = llama_cpp.llama_model_default_params()
    model_params.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), model_params)
    if not model:
        sys.exit(f"llama.cpp cannot load {path}")
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = max(batch_size, 32)
    params.n_threads = params.n_threads_batch = 2
    context = llama_cpp.llama_init_from_model(model, params)
    n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    rows = []
    for begin in range(0, len(tokens), batch_size):
        part = tokens[begin : begin + batch_size]
        batch = llama_cpp.llama_batch_init(len(part), 0, 1)
        batch.n_tokens = len(part)
        for i, token in enumerate(part):
            batch.token[i], batch.pos[i] = token, begin + i
            batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, 0, True
        if llama_cpp.llama_decode(context, batch) != 0:
            sys.exit(f"llama.cpp cannot run {path}")
        for i in range(len(part)):
            row = llama_cpp.llama_get_logits_ith(context, i)
            rows.append(numpy.ctypeslib.as_array(row, (n_vocab,)).copy())
        llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return numpy.stack(rows)


def frwkv_logits(program, path, tokens, strategy):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "logits"
        file = pathlib.Path(folder) / "tokens.json"
        file.write_text(json.dumps(tokens))
        command = [program, "logits", path, "--strategy", strategy, "--tokens-file", file, "--all", "-o", out]
        subprocess.run(command, check=True)
        return numpy.fromfile(out, numpy.float32).reshape(len(tokens), -1)


def relative(a, b):
    return float(numpy.linalg.norm(a - b) / numpy.linalg.norm(b))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("gguf", type=pathlib.Path)
    parser.add_argument("reference", type=pathlib.Path, nargs="?")
    parser.add_argument("--tokens", type=lambda text: [int(t) for t in text.split(",")])
    parser.add_argument("--count", type=int, default=64, help="tokens 0 .. N - 1")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--strategy", default="cpu fp32")
    parser.add_argument("--limit", type=float, default=2e-2)
    a = parser.parse_args()
    tokens = a.tokens or list(range(a.count))
    theirs = llama_logits(a.gguf, tokens, a.batch)
    ours = frwkv_logits(str(a.program.resolve()), a.reference or a.gguf, tokens, a.strategy)
    if theirs.shape != ours.shape:
        sys.exit(f"llama.cpp gives {theirs.shape}, frwkv {ours.shape}")
    worst = max(relative(x, y) for x, y in zip(theirs, ours))
    same = float((theirs.argmax(1) == ours.argmax(1)).mean())
    ok = relative(theirs, ours) <= a.limit
    print("ok    " if ok else "FAILED", a.gguf.name, f"rel L2 {relative(theirs, ours):.1e}, worst position {worst:.1e}, same best token {same:.0%}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
