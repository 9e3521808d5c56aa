"""Compares frwkv with the official Python packages. Prints one line per check and 'N passed, N failed' at the end."""
import importlib.util
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy
import safetensors.numpy

root = pathlib.Path(__file__).resolve().parents[2]
frwkv = str(pathlib.Path(sys.argv[1]).resolve())
model = root / "models" / "rwkv7-story-9m.pth"
results = []


def check(name, ok, detail=""):
    results.append(ok)
    print(("ok    " if ok else "FAILED"), name, detail)


def run(*arguments, data=None):
    return subprocess.run([frwkv, *map(str, arguments)], input=data, capture_output=True, check=True).stdout


def official_world_tokenizer():
    """rwkv_tokenizer.py alone: importing the package would import torch."""
    package = pathlib.Path(importlib.util.find_spec("rwkv").submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location("rwkv_tokenizer", package / "rwkv_tokenizer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TRIE_TOKENIZER(str(package / "rwkv_vocab_v20230424.txt"))


def texts():
    rng = random.Random(7)
    ranges = [(0x20, 0x7F), (0xA0, 0x250), (0x400, 0x460), (0x4E00, 0x9FFF), (0x1F300, 0x1F650), (0x9, 0xE)]
    for _ in range(300):
        low, high = rng.choice(ranges)
        yield "".join(chr(rng.randrange(low, high)) for _ in range(rng.randrange(1, 200)))
    for path in ["README.md", "src/core/ops.h", "docs/architecture.md"]:
        yield (root / path).read_text()
    words = (root / "README.md").read_text().split(" ")
    yield " ".join(rng.choice(words) for _ in range(20000))


def compare_tokenizer():
    official = official_world_tokenizer()
    bad = []
    for text in texts():
        data = text.encode()
        ours = json.loads(run("tokenize", data=data))
        if ours != official.encode(text) or run("tokenize", "--decode", data=json.dumps(ours).encode()) != data:
            bad.append(text[:40])
    check("World tokenizer equals the package's on 304 texts", not bad, repr(bad[:3]) if bad else "")


def compare_vocabularies():
    for tool, committed in [("make_tokenizer_model.py", "tokenizer_model"), ("make_20b_merges.py", "src/text/gpt_neox_20b_merges.txt")]:
        with tempfile.TemporaryDirectory() as folder:
            made = pathlib.Path(folder) / "made"
            subprocess.run([sys.executable, root / "tools" / tool, "-o", made], check=True, stdout=subprocess.DEVNULL)
            check(f"tools/{tool} makes the committed {committed}", made.read_bytes() == (root / committed).read_bytes())


def compare_safetensors():
    with tempfile.TemporaryDirectory() as folder:
        state = pathlib.Path(folder) / "state.safetensors"
        run("logits", model, "--tokens", "1,2,3", "--state-out", state, "-o", pathlib.Path(folder) / "logits")
        tensors = safetensors.numpy.load_file(state)
        shapes = {tuple(tensors[f"blocks.{i}.att.kv"].shape) for i in range(8)}
        check("the safetensors package reads a saved state", len(tensors) == 24 and shapes == {(4, 64, 64)})
        # A file written by the package with the tensors of ours, renamed as a tuned state, is a valid initial state.
        tuned = {f"blocks.{i}.att.time_state": tensors[f"blocks.{i}.att.kv"] for i in range(8)}
        safetensors.numpy.save_file(tuned, pathlib.Path(folder) / "tuned.safetensors")
        a = run("logits", model, "--tokens", "4", "--state-in", pathlib.Path(folder) / "tuned.safetensors")
        b = run("logits", model, "--tokens", "4")
        difference = numpy.abs(numpy.frombuffer(a, numpy.float32) - numpy.frombuffer(b, numpy.float32)).max()
        check("a tuned state written by the package is read and changes the logits", bool(0.01 < difference < 1e3))


def gguf_twin(name, official):
    """The official tensor behind the name of one of RWKV-7's tensors in a GGUF file, in the shape that it has there."""
    layer, _, rest = name.removeprefix("blk.").partition(".")
    names = {"token_embd.weight": "emb.weight", "output.weight": "head.weight", "token_embd_norm.bias": "blocks.0.ln0.bias"}
    if name in names:
        return official[names[name]]
    block = f"blocks.{layer}."
    if rest == "time_mix_lerp_fused.weight":
        return numpy.stack([official[f"{block}att.x_{mix}"] for mix in "rwkvag"])
    part = rest.removesuffix(".weight").removeprefix("time_mix_")
    if part == "r_k":
        return official[block + "att.r_k"].reshape(-1)
    if part in ("v0", "v1", "v2") and f"{block}att.{part}" not in official:  # layer 0: copies that llama.cpp wants
        part = "a" + part[1]
    if part[:1] in "wavg" and part[1:] in ("1", "2"):
        return official[f"{block}att.{part}"].T
    names = {"receptance": "receptance.weight", "key": "key.weight", "value": "value.weight", "output": "output.weight", "ln": "ln_x.weight"}
    names |= {n: n for n in ["w0", "a0", "v0", "k_k", "k_a"]}
    names |= {"channel_mix_key": "ffn.key.weight", "channel_mix_value": "ffn.value.weight", "channel_mix_lerp_k": "ffn.x_k"}
    found = names.get(part)
    return None if found is None else official[block + ("" if found.startswith("ffn") else "att.") + found]


def compare_gguf():
    """The PyPI package gguf reads what convert writes: shapes, and numbers as close as the format allows."""
    import gguf

    limits = {"fp32": 0, "fp16": 0, "bf16": 4e-3, "q8_0": 1e-2, "q4_0": 0.12, "q4_k": 0.12}
    with tempfile.TemporaryDirectory() as folder:
        plain = pathlib.Path(folder) / "plain.safetensors"
        run("convert", model, plain, "--dtype", "fp32", "--no-check")
        official = safetensors.numpy.load_file(plain)
        for dtype, limit in limits.items():
            path = pathlib.Path(folder) / f"{dtype}.gguf"
            run("convert", model, path, "--dtype", dtype, "--no-check")
            reader = gguf.GGUFReader(path)
            worst, seen = 0, 0
            for t in reader.tensors:
                expected = gguf_twin(t.name, official)
                if expected is None:
                    continue
                values = gguf.quants.dequantize(t.data, t.tensor_type)
                if values.size != expected.size or values.shape[-1] != expected.shape[-1]:
                    worst = float("inf")
                    break
                error = numpy.linalg.norm(values.reshape(expected.shape) - expected) / max(numpy.linalg.norm(expected), 1e-9)
                worst, seen = max(worst, float(error)), seen + 1
            tokens = len(reader.fields["tokenizer.ggml.tokens"].data)
            ok = worst <= limit and seen == 187 and tokens == official["emb.weight"].shape[0]
            check(f"the gguf package reads {dtype}", ok, f"{seen} tensors, {tokens} tokens, worst rel L2 {worst:.1e}")


compare_vocabularies()
compare_tokenizer()
compare_safetensors()
compare_gguf()
print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
sys.exit(0 if all(results) else 1)
