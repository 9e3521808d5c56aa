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


def compare_vocabulary():
    with tempfile.TemporaryDirectory() as folder:
        made = pathlib.Path(folder) / "tokenizer_model"
        subprocess.run([sys.executable, root / "tools" / "make_tokenizer_model.py", "-o", made], check=True, stdout=subprocess.DEVNULL)
        check("tools/make_tokenizer_model.py makes the committed tokenizer_model", made.read_bytes() == (root / "tokenizer_model").read_bytes())


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


compare_vocabulary()
compare_tokenizer()
compare_safetensors()
print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
sys.exit(0 if all(results) else 1)
