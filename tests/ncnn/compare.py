"""Runs exported models with PyPI's ncnn and compares every row of logits with `frwkv logits` on the CPU.

    compare.py FRWKV [MODEL ...]      default: every golden model, and the model that ships

For each model: fp32, fp16, int8 and int4 exports; 200 tokens with a carried state through the decode graph, through
the sequence graph (the rest token by token), and both mixed. Prints the largest absolute error, the largest relative
L2 error of a row, and how often the most likely token agrees; exits with 1 when a bound is broken.
"""
import json
import os
import subprocess
import sys
import tempfile

import ncnn
import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GOLDENS = os.path.join(ROOT, "..", "shared", "goldens")
# Relative L2 error of a row; int8 and int4: of all rows together, because single rows of small random models are
# ill-conditioned, and against the unquantised model. ncnn rounds the inputs of int8 products to 8 bits too.
QUANTISED = ("v4_a.pth", "v5_2_a.pth", "v6_a.pth", "v7_a.pth", "rwkv7-story-9m.pth")  # PyPI's int4 layers take minutes
BOUNDS = {"fp32": 5e-5, "fp16": 5e-3, "int8": 4e-2, "int4": 3e-1}


class Model:
    def __init__(self, prefix, dtype):
        self.decode, self.sequence = self._net(prefix + ".param", prefix, dtype), self._net(prefix + ".seq.param", prefix, dtype)
        lines = [line.split() for line in open(prefix + ".seq.param")][2:]
        self.chunk = int(lines[0][-1].split("=")[1])
        self.names, self.state = [], {}
        for line in lines:
            if line[0] == "Input" and line[4].startswith("state_"):
                shape = [int(p.split("=")[1]) for p in line[5:]][::-1]
                self.names.append(line[4])
                self.state[line[4]] = np.zeros(shape, np.float32)
        for line in lines:
            if line[0] == "MemoryData" and line[4].startswith("initial_"):
                with self.decode.create_extractor() as ex:
                    self.state[line[4][len("initial_"):]] = self._extract(ex, line[4])

    @staticmethod
    def _net(param, prefix, dtype):
        net = ncnn.Net()
        net.opt.use_fp16_arithmetic = False
        net.opt.use_bf16_storage = False
        net.opt.use_fp16_storage = net.opt.use_fp16_packed = dtype != "fp32"
        if net.load_param(param) != 0 or net.load_model(prefix + ".bin") != 0:
            raise SystemExit(f"ncnn does not load {param}")
        return net

    @staticmethod
    def _extract(ex, name):
        code, mat = ex.extract(name)
        if code != 0:
            raise SystemExit(f"ncnn does not compute {name}")
        return np.array(mat)

    def step(self, net, tokens):
        with net.create_extractor() as ex:
            ids = ncnn.Mat(np.array(tokens, np.int32).view(np.float32))
            ex.input("input_id", ids)
            kept = [ncnn.Mat(self.state[name]) for name in self.names]
            for name, mat in zip(self.names, kept):
                ex.input(name, mat)
            logits = self._extract(ex, "output").reshape(len(tokens), -1)
            self.state = {name: self._extract(ex, "output_" + name) for name in self.names}
        return logits

    def run(self, tokens, mode):
        """mode: decode, sequence (chunks while they fit), mixed (a chunk, then single tokens, in turn)."""
        rows, i, single = [], 0, 0
        while i < len(tokens):
            whole = i + self.chunk <= len(tokens) and mode != "decode" and single == 0
            n = self.chunk if whole else 1
            if mode == "mixed":
                single = 7 if whole else max(0, single - 1)
            rows.append(self.step(self.sequence if whole else self.decode, tokens[i : i + n]))
            i += n
        return np.concatenate(rows)


def check(name, dtype, mode, found, expected):
    error = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    quantised = dtype.startswith("int")
    l2 = np.linalg.norm(found - expected) / np.linalg.norm(expected) if quantised else error.max()
    top2 = np.sort(expected, axis=1)[:, -2:]
    sure = (top2[:, 1] - top2[:, 0]) > 2 * np.abs(found - expected).max()
    agree = found.argmax(1) == expected.argmax(1)
    good = bool(np.isfinite(found).all()) and l2 <= BOUNDS[dtype] and bool(agree[sure].all())
    print(f"{name:36} {dtype:5} {mode:9} max {np.abs(found - expected).max():.1e}  rel L2 {l2:.1e}  "
          f"argmax {agree.mean():.3f}  {'ok' if good else 'WRONG'}", flush=True)
    return good


def logits(frwkv, model, dtype, tokens, work, extra):
    file, out = os.path.join(work, "tokens.json"), os.path.join(work, "logits.bin")
    json.dump(tokens, open(file, "w"))
    subprocess.run([frwkv, "logits", model, "--strategy", "cpu " + dtype, "--tokens-file", file, "--all", "-o", out] + extra,
                   check=True)
    return np.fromfile(out, np.float32).reshape(len(tokens), -1)


def compare(frwkv, model, name, tokens):
    good = True
    with tempfile.TemporaryDirectory() as work:
        expected = {d: logits(frwkv, model, d, tokens, work, []) for d in ("fp32", "fp16")}
        for dtype in BOUNDS if name in QUANTISED else ("fp32", "fp16"):
            prefix = os.path.join(work, "model")
            subprocess.run(os.environ.get("FR_NCNN_EXPORT", frwkv + " export ncnn").split() + [model, prefix, "--dtype", dtype],
                           check=True, stdout=subprocess.DEVNULL)
            for mode in ("decode", "sequence", "mixed"):
                found = Model(prefix, dtype).run(tokens, mode)
                good &= check(name, dtype, mode, found, expected.get(dtype, expected["fp32"]))
    return good


def golden_models():
    cases = json.load(open(os.path.join(GOLDENS, "cases.json")))
    for file in cases["files"]:
        if not file["expect"] or "state_file" in file:
            continue
        longest = max(cases["expects"][file["expect"]]["cases"], key=lambda c: len(c["tokens"]))
        yield os.path.join(GOLDENS, file["path"]), longest["tokens"]


def main():
    frwkv, models = sys.argv[1], sys.argv[2:]
    good, n = True, 0
    if not models and not os.path.isdir(GOLDENS):
        print("SKIPPED: no ../shared/goldens: only the model that ships is compared")
    todo = [] if models or not os.path.isdir(GOLDENS) else list(golden_models())
    for model in models or [os.path.join(ROOT, "models", f) for f in os.listdir(os.path.join(ROOT, "models")) if f.endswith(".pth")]:
        todo.append((model, [(7 * i * i + 3 * i) % 500 for i in range(200)]))
    for model, tokens in todo:
        good &= compare(frwkv, model, os.path.basename(model), tokens)
        n += 1
    print(f"{n} models: {'all within their bounds' if good else 'SOME ARE WRONG'}")
    return 0 if good and n > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
