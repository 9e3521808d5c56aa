#!/usr/bin/env python3
"""Writes src/formats/testdata/chatrwkv/: small random models as ChatRWKV's convert_model.py saves them (.pth) and as
faster-rwkv's convert_weight.py of 2023 made of those (.fr), saved states of faster-rwkv, and expected.json with the
logits that these numbers give by ChatRWKV's formulas in float64. Without an argument it also writes tiny files of
these kinds to fuzz/corpus/fr and fuzz/corpus/pth.

Needs numpy alone, and shares no code with the programs: pickles, ZIP and msgpack are put together here.
"""
import io
import json
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np

D, F, V, H, N = 16, 32, 24, 2, 8
TOKENS = [3, 17, 0, 9, 9, 22]

# ---- number formats: arrays of float32, float16 and uint8 are what they say; bf16 is uint16.

STORAGE = {"f32": ("FloatStorage", 4), "f16": ("HalfStorage", 2), "bf16": ("BFloat16Storage", 2), "u8": ("ByteStorage", 1)}


class Tensor:
    def __init__(self, values, dtype, transposed=False):
        self.dtype, self.transposed, self.shape = dtype, transposed, values.shape
        if dtype == "bf16":
            u = values.astype(np.float32).view(np.uint32).astype(np.uint64)
            self.stored = ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)
        else:
            self.stored = values.astype({"f32": np.float32, "f16": np.float16, "u8": np.uint8}[dtype])

    def exact(self):
        if self.dtype == "bf16":
            return (self.stored.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        return self.stored.astype(np.float64)


# ---- models

def official(version, layers, seed):
    r = np.random.default_rng(seed)
    normal = lambda *shape, std=1.0, mean=0.0: mean + std * r.standard_normal(shape)
    matrix = lambda o, i: normal(o, i, std=i**-0.5)
    w = {"emb.weight": normal(V, D)}
    for i in range(layers):
        b = f"blocks.{i}."
        for norm in (["ln0"] if i == 0 else []) + ["ln1", "ln2"]:
            w[b + norm + ".weight"], w[b + norm + ".bias"] = normal(D, std=0.1, mean=1), normal(D, std=0.1)
        mix = "maa" if version == "6" else "mix"
        for name in {"4": "kvr", "5.0": "kvr", "5.1": "kvrg", "5.2": "kvrg", "6": "xwkvrg"}[version]:
            w[b + f"att.time_{mix}_" + name] = r.random((1, 1, D))
        if version == "6":
            w[b + "att.time_maa_w1"], w[b + "att.time_maa_w2"] = normal(D, 20, std=0.3), normal(5, 4, D, std=0.3)
            w[b + "att.time_decay_w1"], w[b + "att.time_decay_w2"] = normal(D, 4, std=0.3), normal(4, D, std=0.3)
        heads = {"4": (D,), "5.0": (H,), "5.1": (H,), "5.2": (H, N), "6": (H, N)}[version]
        w[b + "att.time_decay"] = normal(*((1, 1, D) if version == "6" else heads), mean=-1)
        w[b + ("att.time_first" if version in ("4", "5.0") else "att.time_faaaa")] = normal(*heads, std=0.5)
        for name in ["receptance", "key", "value", "output"] + ["gate"] * (version in ("5.1", "5.2", "6")):
            w[b + f"att.{name}.weight"] = matrix(D, D)
        if version != "4":
            w[b + "att.ln_x.weight"], w[b + "att.ln_x.bias"] = normal(D, std=0.1, mean=1), normal(D, std=0.1)
        for name in "kr":
            w[b + f"ffn.time_{mix}_" + name] = r.random((1, 1, D))
        w[b + "ffn.key.weight"], w[b + "ffn.receptance.weight"] = matrix(F, D), matrix(D, D)
        w[b + "ffn.value.weight"] = matrix(D, F)
    w["ln_out.weight"], w["ln_out.bias"] = normal(D, std=0.1, mean=1), normal(D, std=0.1)
    w["head.weight"] = matrix(V, D)
    return w


def layer_norm(x, weight, bias):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * weight + bias


def quantised(w, wide):
    """The matrix [in, out] as bytes, and what is subtracted and divided by row (y) and column (x)."""
    tall = w.shape[0] > w.shape[1]
    part = {}
    for axis in "yx" if tall else "xy":
        part["m" + axis] = w.min(1, keepdims=True) if axis == "y" else w.min(0)
        w = w - part["m" + axis]
    part["rx"] = w.max(0)
    w = w / part["rx"]
    part["ry"] = w.max(1, keepdims=True)
    w = w / part["ry"]
    bytes_ = np.clip(np.floor(w * 256), 0, 255)
    return bytes_, {"_" + k: Tensor(v / (16 if k[0] == "r" else 1), wide) for k, v in part.items()}


def convert(w, version, plan, rescale):
    """plan: number format of the vectors and "u8" or the same for the matrices, for each layer and the head."""
    layers, out, scales = len(plan) - 1, {}, {}
    for name, x in w.items():
        layer = int(name.split(".")[1]) if "blocks." in name else 0
        if name.startswith(("ln_out", "head")):
            layer = layers
        vector, matrix = plan[layer]
        if ".ln0." in name:
            continue
        if name == "emb.weight":
            out[name] = Tensor(layer_norm(x, w["blocks.0.ln0.weight"], w["blocks.0.ln0.bias"]), vector)
        elif name.endswith(("key.weight", "value.weight", "receptance.weight", "gate.weight", "output.weight", "head.weight")):
            if rescale and name.endswith(("att.output.weight", "ffn.value.weight")):
                x = x / 2 ** (layer // rescale)
            if matrix == "u8":
                bytes_, parts = quantised(x.T, vector)
                out[name] = Tensor(bytes_, "u8", transposed=True)
                scales.update({name + k: v for k, v in parts.items()})
            else:
                out[name] = Tensor(x.T, matrix, transposed=True)
        elif name.endswith("att.time_decay"):
            if version == "4":
                x = -np.exp(x)
            else:
                x = x.reshape(H, -1, 1) if version == "6" else np.exp(-np.exp(x)).reshape(H, -1, 1)
            out[name] = Tensor(x, "f32")
        elif name.endswith("att.time_first"):
            out[name] = Tensor(x if version == "4" else np.exp(x).reshape(H, -1, 1), "f32")
        elif name.endswith("att.time_faaaa"):
            out[name.replace("faaaa", "first")] = Tensor(x.reshape(H, -1, 1), "f32")
        else:
            out[name] = Tensor(x.squeeze(), "f32" if ".ln_x." in name else vector)
    return out | scales


# ---- ChatRWKV's formulas on the converted numbers

class Model:
    def __init__(self, tensors, version, rescale):
        self.version, self.rescale = version, rescale
        self.w = {k: v.exact() for k, v in tensors.items() if not k.endswith(("_mx", "_my", "_rx", "_ry"))}
        for k, v in tensors.items():
            if v.dtype == "u8":
                mx, my, rx, ry = (tensors[k + part].exact() for part in ("_mx", "_my", "_rx", "_ry"))
                self.w[k] = (v.exact() + 0.5) * ry * rx + my + mx
        self.layers = 1 + max(int(k.split(".")[1]) for k in tensors if k.startswith("blocks."))

    def state(self):
        zero = lambda: np.zeros(D)
        if self.version == "4":
            return [[zero(), zero(), zero(), np.full(D, -1e30), zero()] for _ in range(self.layers)]
        return [[zero(), np.zeros((H, N, N)), zero()] for _ in range(self.layers)]

    def step(self, token, state):
        x = self.w["emb.weight"][token]
        for i, s in enumerate(state):
            get = lambda name: self.w[f"blocks.{i}.{name}"]
            xx = layer_norm(x, get("ln1.weight"), get("ln1.bias"))
            x = x + {"4": self.att4, "6": self.att6}.get(self.version, self.att5)(get, xx, s)
            xx = layer_norm(x, get("ln2.weight"), get("ln2.bias"))
            if self.version == "6":
                kx, rx = (xx + (s[-1] - xx) * get("ffn.time_maa_" + c) for c in "kr")
            else:
                kx, rx = (self.mixed(xx, s[-1], get("ffn.time_mix_" + c)) for c in "kr")
            s[-1] = xx
            r = 1 / (1 + np.exp(-(rx @ get("ffn.receptance.weight"))))
            x = x + r * (np.maximum(kx @ get("ffn.key.weight"), 0) ** 2 @ get("ffn.value.weight"))
            if self.rescale and (i + 1) % self.rescale == 0:
                x = x / 2
        return layer_norm(x, self.w["ln_out.weight"], self.w["ln_out.bias"]) @ self.w["head.weight"]

    @staticmethod
    def mixed(xx, before, mix):
        return xx * mix + before * (1 - mix)

    def att4(self, get, xx, s):
        kx, vx, rx = (self.mixed(xx, s[0], get("att.time_mix_" + c)) for c in "kvr")
        r = 1 / (1 + np.exp(-(rx @ get("att.receptance.weight"))))
        k, v = kx @ get("att.key.weight"), vx @ get("att.value.weight")
        _, aa, bb, pp, _ = s
        ww = get("att.time_first") + k
        p = np.maximum(pp, ww)
        y = (np.exp(pp - p) * aa + np.exp(ww - p) * v) / (np.exp(pp - p) * bb + np.exp(ww - p))
        ww = get("att.time_decay") + pp
        p = np.maximum(ww, k)
        s[:4] = xx, np.exp(ww - p) * aa + np.exp(k - p) * v, np.exp(ww - p) * bb + np.exp(k - p), p
        return (r * y) @ get("att.output.weight")

    def heads(self, get, s, r, k, v, w, gate):
        kv = k.reshape(H, N, 1) * v.reshape(H, 1, N)
        y = (r.reshape(H, 1, N) @ (get("att.time_first") * kv + s[1])).reshape(H, N)
        s[1] = kv + w * s[1]
        y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 64e-5)
        y = y.reshape(D) * get("att.ln_x.weight") + get("att.ln_x.bias")
        return (y * gate) @ get("att.output.weight")

    @staticmethod
    def silu(g):
        return g / (1 + np.exp(-g))

    def att5(self, get, xx, s):
        kx, vx, rx = (self.mixed(xx, s[0], get("att.time_mix_" + c)) for c in "kvr")
        gate = 1.0
        if self.version != "5.0":
            gate = self.silu(self.mixed(xx, s[0], get("att.time_mix_g")) @ get("att.gate.weight"))
        s[0] = xx
        r, k, v = (x @ get(f"att.{name}.weight") for x, name in ((rx, "receptance"), (kx, "key"), (vx, "value")))
        return self.heads(get, s, r, k, v, get("att.time_decay"), gate)

    def att6(self, get, xx, s):
        sx = s[0] - xx
        m = np.tanh((xx + sx * get("att.time_maa_x")) @ get("att.time_maa_w1")).reshape(5, 1, -1)
        m = (m @ get("att.time_maa_w2")).reshape(5, D)
        wx, kx, vx, rx, gx = (xx + sx * (get("att.time_maa_" + c) + m[j]) for j, c in enumerate("wkvrg"))
        s[0] = xx
        r, k, v = (x @ get(f"att.{name}.weight") for x, name in ((rx, "receptance"), (kx, "key"), (vx, "value")))
        w = get("att.time_decay") + (np.tanh(wx @ get("att.time_decay_w1")) @ get("att.time_decay_w2")).reshape(H, N, 1)
        return self.heads(get, s, r, k, v, np.exp(-np.exp(w)), self.silu(gx @ get("att.gate.weight")))


# ---- files

def pth(tensors, strategy, rescale):
    """torch.save of a dict: pickle protocol 2, one storage for each tensor."""
    out = io.BytesIO()
    text = lambda s: b"X" + struct.pack("<I", len(s)) + s.encode()
    integer = lambda i: b"K" + bytes([i]) if i < 256 else b"J" + struct.pack("<i", i)
    tuple_ = lambda values: b"(" + b"".join(map(integer, values)) + b"t"
    pickled = b"\x80\x02}("
    with zipfile.ZipFile(out, "w") as archive:
        def add(name, data):
            archive.writestr(zipfile.ZipInfo("converted/" + name), data)
        for key, (name, t) in enumerate(tensors.items()):
            storage, _ = STORAGE[t.dtype]
            stored = t.stored.T if t.transposed else t.stored
            count = stored.size
            strides = (1, t.shape[0]) if t.transposed else tuple(int(np.prod(t.shape[d + 1:])) for d in range(len(t.shape)))
            pickled += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(("
            pickled += text("storage") + f"ctorch\n{storage}\n".encode() + text(str(key)) + text("cpu") + integer(count) + b"tQ"
            pickled += integer(0) + tuple_(t.shape) + tuple_(strides) + b"\x89ccollections\nOrderedDict\n)RtR"
        pickled += text("_strategy") + text(strategy) + text("_rescale_layer") + integer(rescale)
        pickled += text("_version") + text("0.7") + b"u."
        add("data.pkl", pickled)
        add("byteorder", "little")
        for key, t in enumerate(tensors.values()):
            add(f"data/{key}", np.ascontiguousarray(t.stored.T if t.transposed else t.stored).tobytes())
        add("version", "3\n")
    return out.getvalue()


def pack(x):
    """What these files need of msgpack."""
    if isinstance(x, str):
        s = x.encode()
        return (bytes([0xA0 | len(s)]) if len(s) < 32 else b"\xd9" + bytes([len(s)])) + s
    if isinstance(x, bytes):
        return (b"\xc4" + bytes([len(x)]) if len(x) < 256 else b"\xc5" + struct.pack(">H", len(x))) + x
    if isinstance(x, int):
        return bytes([x]) if x < 128 else b"\xcc" + bytes([x]) if x < 256 else b"\xcd" + struct.pack(">H", x)
    head = lambda fixed, wide: bytes([fixed | len(x)]) if len(x) < 16 else bytes([wide]) + struct.pack(">H", len(x))
    if isinstance(x, dict):
        return head(0x80, 0xDE) + b"".join(pack(k) + pack(v) for k, v in x.items())
    return head(0x90, 0xDC) + b"".join(map(pack, x))


def packed(t):
    return {"dtype": {"f32": "torch.float32", "f16": "torch.float16", "u8": "torch.uint8"}[t.dtype], "data": t.stored.tobytes(), "shape": list(t.shape)}


def fr(tensors, half_embedding, fields):
    rows = [Tensor(row, "f16" if half_embedding else tensors["emb.weight"].dtype) for row in tensors["emb.weight"].exact()]
    tensors["emb.weight"] = Tensor(np.stack([row.exact() for row in rows]), rows[0].dtype)
    weights = {k: packed(v) for k, v in tensors.items() if k != "emb.weight"}
    return pack({"embd_weights": [packed(row) for row in rows], "weights": weights} | fields)


# ---- the set

MODELS = [  # file, version, strategy, format of vectors and matrices by layer and head, rescale
    ("v4_fp32.pth", "4", "cpu fp32", [("f32", "f32")] * 4, 0),
    ("v4_layered.pth", "4", "cpu fp32 *1 -> cuda fp16i8 *1 -> cuda bf16", [("f32", "f32"), ("f16", "u8")] + [("bf16", "bf16")] * 2, 2),
    ("v5_0_bf16.pth", "5.0", "cpu bf16", [("bf16", "bf16")] * 4, 0),
    ("v5_1_fp16.pth", "5.1", "cuda fp16", [("f16", "f16")] * 4, 2),
    ("v5_2_layered.pth", "5.2", "cuda fp16i8 *2 -> cpu fp32", [("f16", "u8")] * 2 + [("f32", "f32")] * 2, 2),
    ("v6_fp32i8.pth", "6", "cpu fp32i8", [("f32", "u8")] * 4, 0),
    ("v6_layered.pth", "6", "cuda fp16 *2 -> cpu fp32", [("f16", "f16")] * 2 + [("f32", "f32")] * 2, 2),
]
FR_MODELS = [  # file, version, format, layers, rescale, embedding as fp16, last entries
    ("v4_first.fr", "4", "f32", 3, 0, True, {"n_layer": 3, "n_embd": D}),
    ("v4_fp16.fr", "4", "f16", 7, 6, False, {"version": "4", "n_layer": 7, "n_embd": D, "n_att": D, "n_ffn": F}),
    ("v5_1.fr", "5.1", "f32", 3, 0, True, {"n_head": H, "version": "5.1", "n_layer": 3, "n_embd": D, "n_att": D, "n_ffn": F}),
    ("v5_2.fr", "5.2", "f16", 3, 6, False, {"n_head": H, "version": "5.2", "n_layer": 3, "n_embd": D, "n_att": D, "n_ffn": F}),
]


def run(model, tokens, state):
    return [[float(f"{x:.7g}") for x in model.step(t, state)] for t in tokens]


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    expected = {}
    for seed, (file, version, strategy, plan, rescale) in enumerate(MODELS):
        tensors = convert(official(version, len(plan) - 1, seed), version, plan, rescale)
        (folder / file).write_bytes(pth(tensors, strategy, rescale))
        model = Model(tensors, version, rescale)
        expected[file] = {"version": version, "rescale": rescale, "logits": run(model, TOKENS, model.state())}
        if file not in ("v4_fp32.pth", "v5_1_fp16.pth"):
            continue
        state = model.state()  # as faster-rwkv saves it: x_prev in the format of the activations
        run(model, TOKENS[:3], state)
        wide = "f32" if version == "4" else "f16"
        stored = [[Tensor(x, wide if i in (0, len(s) - 1) else "f32") for i, x in enumerate(s)] for s in state]
        name = file.replace(".pth", ".state")
        (folder / name).write_bytes(pack([[packed(t) for t in s] for s in stored]))
        expected[name] = {"model": file, "logits": run(model, TOKENS[3:], [[t.exact() for t in s] for s in stored])}
    for seed, (file, version, dtype, layers, rescale, half, fields) in enumerate(FR_MODELS):
        tensors = convert(official(version, layers, 100 + seed), version, [(dtype, dtype)] * (layers + 1), rescale)
        (folder / file).write_bytes(fr(tensors, half, fields))
        model = Model(tensors, version, rescale)
        expected[file] = {"version": version, "rescale": rescale, "logits": run(model, TOKENS, model.state())}
    text = json.dumps({"tokens": TOKENS, "files": expected}).replace(']], "', ']],\n"').replace('"files": {', '"files": {\n')
    (folder / "expected.json").write_text(text.replace("}, ", "},\n") + "\n")


def corpus(folder):
    (folder / "fr").mkdir(exist_ok=True)
    r = np.random.default_rng(1)
    tensors = {"emb.weight": Tensor(r.random((3, 2)), "f16")}
    for name in ("ln1.weight", "att.ln_x.weight"):
        tensors["blocks.0." + name] = Tensor(r.random(2), "f16")
    for name in ("decay", "first"):
        tensors["blocks.0.att.time_" + name] = Tensor(r.random((2, 1, 1)), "f32")
    tensors["head.weight"] = Tensor(r.random((2, 3)) * 255, "u8", transposed=True)
    tensors |= {"head.weight_" + k: Tensor(r.random(3 if k[1] == "x" else (2, 1)), "f16") for k in ("mx", "my", "rx", "ry")}
    (folder / "pth/converted.pth").write_bytes(pth(tensors, "cuda fp16i8", 6))
    (folder / "fr/bytes").write_bytes(fr(dict(tensors), False, {"n_head": 2, "version": "5.1", "n_layer": 1, "n_embd": 2}))
    floats = {k: v for k, v in tensors.items() if not k.startswith("head")}
    (folder / "fr/first").write_bytes(fr(dict(floats), True, {"n_layer": 1, "n_embd": 2}))
    state = [[packed(Tensor(r.random(2), "f16")), packed(Tensor(r.random((1, 2, 2)), "f32")), packed(Tensor(r.random(2), "f16"))]]
    (folder / "fr/state").write_bytes(pack(state))


if __name__ == "__main__":
    root = Path(__file__).parent.parent
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        main(root / "src/formats/testdata/chatrwkv")
        corpus(root / "fuzz/corpus")
