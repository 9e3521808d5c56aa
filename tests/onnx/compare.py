"""Compares exported ONNX models under onnxruntime with the cpu backend: 200 tokens through the decode graph, the sequence
graph and both in turns. Prints one line per model and number format and 'N passed, N failed' at the end."""
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy
import onnx
import onnxruntime

root = pathlib.Path(__file__).resolve().parents[2]
goldens = root.parent / "shared" / "goldens"
frwkv = str(pathlib.Path(sys.argv[1]).resolve())
shipped = root / "models" / "rwkv7-story-9m.pth"
limits = {"fp32": 5e-5, "fp16": 5e-3}  # relative L2 of a row
n_tokens = 200
results = []


def check(name, ok, detail=""):
    results.append(bool(ok))
    print(("ok    " if ok else "FAILED"), name, detail, flush=True)


def run(*arguments):
    done = subprocess.run([frwkv, *map(str, arguments)], capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.decode().strip())
    return done.stdout


def read_safetensors(path):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    return {
        name: numpy.frombuffer(data[8 + size :][slice(*t["data_offsets"])], numpy.float32).reshape(t["shape"])
        for name, t in header.items()
    }


def session(path, threads=0):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Model:
    """The three graphs of an export."""

    def __init__(self, path, threads=0):
        stem = str(path).removesuffix(".onnx")
        paths = [str(path), stem + ".decode.onnx", stem + ".initial.onnx"]
        for p in paths:
            onnx.checker.check_model(p, full_check=True)
        self.sequence, self.decode, initial = (session(p, threads) for p in paths)
        names = [o.name for o in initial.get_outputs()]
        self.fresh = dict(zip(names, initial.run(None, {})))

    def step(self, graph, tokens, state, wanted=None):
        feeds = {"tokens": numpy.array(tokens, numpy.int64), **state}
        if graph is self.sequence:
            feeds["wanted"] = numpy.arange(len(tokens)) if wanted is None else numpy.array(wanted, numpy.int64)
        names = [o.name for o in graph.get_outputs()]
        values = dict(zip(names, graph.run(None, feeds)))
        new = {name.removeprefix("new_"): v for name, v in values.items() if name.startswith("new_state.")}
        return values["logits"], new

    def decoded(self, tokens):
        state, rows = self.fresh, []
        for t in tokens:
            logits, state = self.step(self.decode, [t], state)
            rows.append(logits)
        return numpy.concatenate(rows), state

    def at_once(self, tokens):
        return self.step(self.sequence, tokens, self.fresh)

    def mixed(self, tokens):
        """Pieces of 1 token and more, by either graph; the rows of one piece are asked for in reverse order."""
        state, rows, at = self.fresh, [], 0
        for i, n in enumerate([1, 5, 1, 1, 17, 2, 64, 1, len(tokens)]):
            piece = tokens[at : at + n]
            graph = self.decode if len(piece) == 1 and i % 2 == 0 else self.sequence
            wanted = list(range(len(piece)))[::-1] if n == 17 else None
            logits, state = self.step(graph, piece, state, wanted)
            rows.append(logits[::-1] if wanted else logits)
            at += len(piece)
        return numpy.concatenate(rows), state


def rel_l2(found, expected):
    """Of each row."""
    return numpy.linalg.norm(found - expected, axis=-1) / numpy.maximum(numpy.linalg.norm(expected, axis=-1), 1e-30)


def difference(found, expected, limit):
    """ok, text: rows within the limit, and the same argmax wherever the best two differ by more than the limit allows."""
    if found.shape != expected.shape or not numpy.isfinite(found).all():
        return False, f"shape {found.shape}, expected {expected.shape}, or not finite"
    errors = rel_l2(found, expected)
    top = numpy.sort(expected, axis=-1)[:, -2:]
    clear = top[:, 1] - top[:, 0] > limit * numpy.linalg.norm(expected, axis=-1)
    same = found.argmax(-1) == expected.argmax(-1)
    ok = errors.max() <= limit and same[clear].all()
    text = f"max abs {numpy.abs(found - expected).max():.1e}, rel L2 {errors.max():.1e}, argmax {same.sum()}/{len(same)}"
    return ok, text


def state_difference(found, expected):
    """The worst relative L2 of a block."""
    if {n.removeprefix("state.") for n in found} != set(expected):
        return numpy.inf
    return max(rel_l2(found["state." + n].ravel(), e.ravel()) for n, e in expected.items())


def compare(name, source, folder, state=None):
    info = json.loads(run("info", source, "--json"))
    tokens = numpy.random.default_rng(5).integers(0, info["n_vocab"], n_tokens).tolist()
    (folder / "tokens.json").write_text(json.dumps(tokens))
    given = ["--state", state] if state else []
    exported_from = source
    if state:
        exported_from = folder / "tuned.safetensors"
        run("convert", source, exported_from, "--state", state, "--no-check")
    for dtype, limit in limits.items():
        run("export", "onnx", exported_from, folder / "m.onnx", "--dtype", dtype)
        final = folder / "state.safetensors"
        cpu = ["logits", source, "--tokens-file", folder / "tokens.json", "--strategy", f"cpu {dtype}", "--all", *given]
        reference = numpy.frombuffer(run(*cpu, "--state-out", final), numpy.float32).reshape(n_tokens, -1)
        model = Model(folder / "m.onnx")
        for way in (model.decoded, model.at_once, model.mixed):
            logits, new = way(tokens)
            ok, text = difference(logits, reference, limit)
            states = state_difference(new, read_safetensors(final))
            check(f"{name} {dtype} {way.__name__}", ok and states <= limit, f"{text}, states {states:.1e}")
        last, _ = model.step(model.sequence, tokens, model.fresh, [-1])
        check(f"{name} {dtype} wanted -1 is the last row", difference(last, reference[-1:], limit)[0])


def speed(folder):
    """Decode of the shipped model by both programs in turns, each by the median of its steps, for the documentation."""
    run("export", "onnx", shipped, folder / "m.onnx", "--dtype", "fp32")
    for threads in (1, 2):
        model, steps, cpu = Model(folder / "m.onnx", threads), [], []
        for _ in range(3):
            state = model.fresh
            for token in range(1, n_tokens):
                start = time.perf_counter()
                _, state = model.step(model.decode, [token], state)
                steps.append(time.perf_counter() - start)
            bench = run("bench", shipped, "--strategy", "cpu fp32", "--threads", threads, "--batch", 1, "--prompt", 16, "--json")
            cpu.append(json.loads(bench)["decode"][0]["step_seconds_median"])
        onnx_speed, cpu_speed = 1 / numpy.median(steps), 1 / numpy.median(cpu)
        print(
            f"decode, {threads} threads: onnxruntime {onnx_speed:.0f} tok/s, cpu fp32 {cpu_speed:.0f} tok/s,"
            f" ratio {onnx_speed / cpu_speed:.2f}"
        )


def models():
    yield "shipped", shipped, None
    if not goldens.is_dir():
        print(f"skipped: the golden models ({goldens} is not there)")
        return
    for f in json.loads((goldens / "cases.json").read_text())["files"]:
        state = f.get("state_file")
        name = f["path"].removeprefix("models/") + (" + state" if state else "")
        yield name, goldens / f["path"], goldens / state if state else None


for name, source, state in models():
    with tempfile.TemporaryDirectory() as folder:
        try:
            compare(name, source, pathlib.Path(folder), state)
        except RuntimeError as e:
            check(name, False, str(e))
with tempfile.TemporaryDirectory() as folder:
    speed(pathlib.Path(folder))
print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
sys.exit(0 if all(results) else 1)
