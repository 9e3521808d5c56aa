#!/usr/bin/env python3
"""Writes src/formats/testdata/layouts/: small random RWKV models in the layouts of other programs, each with a
twin of the same numbers in the official layout (NAME.safetensors). Tests compare the two.

Needs numpy and safetensors. Written from the formats' descriptions, apart from the readers that it tests.
"""
import json
import struct
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

WIDTH, HEADS, FFN, VOCAB = 32, 2, 32, 16
SIZE = WIDTH // HEADS


def layers_of(version):
    return 2 if version == "7" else 1  # the first layer of RWKV-7 has no value residual


class Random:
    def __init__(self, seed):
        self.generator = np.random.default_rng(seed)

    def __call__(self, *shape, low=-0.5, high=0.5):
        return self.generator.uniform(low, high, shape).astype(np.float16)


def official(version, seed):
    """name -> fp16 array, as BlinkDL's files have them."""
    r = Random(seed)
    w = {"emb.weight": r(VOCAB, WIDTH), "blocks.0.ln0.weight": r(WIDTH, low=0.5, high=1.5), "blocks.0.ln0.bias": r(WIDTH)}
    for i in range(layers_of(version)):
        block = f"blocks.{i}."
        for norm in ("ln1", "ln2"):
            w[f"{block}{norm}.weight"] = r(WIDTH, low=0.5, high=1.5)
            w[f"{block}{norm}.bias"] = r(WIDTH)
        att, ffn = {}, {}
        for name in ("receptance", "key", "value", "output"):
            att[f"{name}.weight"] = r(WIDTH, WIDTH)
        ffn["key.weight"], ffn["value.weight"] = r(FFN, WIDTH), r(WIDTH, FFN)
        if version != "7":
            ffn["receptance.weight"] = r(WIDTH, WIDTH)
        if version != "4":
            att["ln_x.weight"], att["ln_x.bias"] = r(WIDTH, low=0.5, high=1.5), r(WIDTH)
        if version in ("5.1", "5.2", "6"):
            att["gate.weight"] = r(WIDTH, WIDTH)
        if version[0] in "45":
            for letter in "kvr" if version in ("4", "5.0") else "kvrg":
                att[f"time_mix_{letter}"] = r(1, 1, WIDTH, low=0, high=1)
            for letter in "kr":
                ffn[f"time_mix_{letter}"] = r(1, 1, WIDTH, low=0, high=1)
        if version == "4":
            att["time_decay"], att["time_first"] = r(WIDTH, low=-3, high=1), r(WIDTH)
        if version in ("5.0", "5.1"):
            att["time_decay"] = r(HEADS, low=-3, high=1)
            att["time_first" if version == "5.0" else "time_faaaa"] = r(HEADS)
        if version == "5.2":
            att["time_decay"], att["time_faaaa"] = r(HEADS, SIZE, low=-3, high=1), r(HEADS, SIZE)
        if version == "6":
            for letter in "xwkvrg":
                att[f"time_maa_{letter}"] = r(1, 1, WIDTH, low=0, high=1)
            for letter in "kr":
                ffn[f"time_maa_{letter}"] = r(1, 1, WIDTH, low=0, high=1)
            att["time_maa_w1"], att["time_maa_w2"] = r(WIDTH, 5 * 4), r(5, 4, WIDTH)
            att["time_decay"], att["time_faaaa"] = r(1, 1, WIDTH, low=-3, high=1), r(HEADS, SIZE)
            att["time_decay_w1"], att["time_decay_w2"] = r(WIDTH, 6), r(6, WIDTH)
            att["time_state"] = r(HEADS, SIZE, SIZE)
        if version == "7":
            for letter in "rwkvag":
                att[f"x_{letter}"] = r(1, 1, WIDTH, low=0, high=1)
            for letter, rank in (("w", 4), ("a", 5), ("v", 3), ("g", 32)):
                if letter == "v" and i == 0:
                    continue
                att[f"{letter}1"], att[f"{letter}2"] = r(WIDTH, rank), r(rank, WIDTH)
                if letter != "g":
                    att[f"{letter}0"] = r(1, 1, WIDTH)
            att["k_k"], att["k_a"], att["r_k"] = r(1, 1, WIDTH), r(1, 1, WIDTH), r(HEADS, SIZE)
            ffn["x_k"] = r(1, 1, WIDTH, low=0, high=1)
        w |= {f"{block}att.{k}": v for k, v in att.items()} | {f"{block}ffn.{k}": v for k, v in ffn.items()}
    w["ln_out.weight"], w["ln_out.bias"] = r(WIDTH, low=0.5, high=1.5), r(WIDTH)
    w["head.weight"] = r(VOCAB, WIDTH)
    return w


def contiguous(weights):
    return {k: np.ascontiguousarray(v) for k, v in weights.items()}


def save(weights, path):
    save_file(contiguous(weights), path, metadata={"format": "pt"})
    path.chmod(0o644)


def is_factor(name):
    last = name.split(".")[-1]
    return last in ("time_maa_w1", "time_maa_w2", "time_decay_w1", "time_decay_w2") or (len(last) == 2 and last[0] in "wavg" and last[1] in "12")


# ---- web-rwkv


def web_rwkv(weights, version):
    out = {}
    for name, v in weights.items():
        if version == "5.1" and name.endswith(("time_decay", "time_faaaa")):
            v = np.repeat(v[:, None], SIZE, axis=1)
        if is_factor(name) or name.endswith("time_state"):
            v = v.swapaxes(-1, -2)
        out[name.replace("time_faaaa", "time_first").replace("time_maa", "time_mix")] = v
    return out


# ---- Hugging Face


def fla(weights, packed):
    parts = {"receptance": "r_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj", "ln_x": "g_norm"}
    outside = {"emb": "model.embeddings", "ln_out": "model.norm", "head": "lm_head"}
    norms = {"ln0": "pre_norm", "ln1": "attn_norm", "ln2": "ffn_norm"}
    out = {}
    for name, v in weights.items():
        word = name.split(".")
        if word[0] in outside:
            out[f"{outside[word[0]]}.{word[1]}"] = v
            continue
        layer, place, rest = f"model.layers.{word[1]}", word[2], word[3:]
        if place in norms:
            out[f"{layer}.{norms[place]}.{rest[0]}"] = v
        elif place == "ffn":
            out[f"{layer}.ffn." + ".".join(rest)] = v.reshape(-1) if rest[0] == "x_k" else v
        elif rest[0] in parts:
            out[f"{layer}.attn.{parts[rest[0]]}.{rest[1]}"] = v
        elif len(rest[0]) == 2:
            kind = {"0": "2.bias", "1": "0.weight", "2": "2.weight"}[rest[0][1]]
            out[f"{layer}.attn.{rest[0][0]}_lora.lora.{kind}"] = v.T if is_factor(name) else v.reshape(-1)
        else:
            out[f"{layer}.attn.{rest[0]}"] = v.reshape(-1) if rest[0] in ("k_k", "k_a") else v
    if packed:
        for i in range(layers_of("7")):
            mixes = [out.pop(f"model.layers.{i}.attn.x_{letter}") for letter in "rwkvag"]
            out[f"model.layers.{i}.attn.x_x"] = np.stack(mixes).reshape(6, 1, 1, WIDTH)
    return out


def transformers_v4(weights):
    out = {}
    for name, v in weights.items():
        name = name.replace("emb.", "embeddings.").replace(".ln0.", ".pre_ln.")
        name = name.replace(".att.", ".attention.").replace(".ffn.", ".feed_forward.")
        for short, long in (("k", "key"), ("v", "value"), ("r", "receptance"), ("g", "gate")):
            if name.endswith(f".time_mix_{short}"):
                name = name[: -len(short)] + long
        out[name if name == "head.weight" else f"rwkv.{name}"] = v
    return out


def shards(weights, folder, count, config):
    folder.mkdir(exist_ok=True)
    names, index = sorted(weights), {}
    for n in range(count):
        file = f"model-{n + 1:05}-of-{count:05}.safetensors"
        part = names[n::count]
        save({k: weights[k] for k in part}, folder / file)
        index |= {k: file for k in part}
    size = sum(v.nbytes for v in weights.values())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": index}, indent=1))
    (folder / "config.json").write_text(json.dumps(config, indent=1))


# ---- rwkv.cpp

TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 7, "q5_1": 8, "q8_0": 9}


def quantise(matrix, kind):
    """Bytes of the blocks, and the numbers that they stand for."""
    data, numbers = b"", []
    for block in matrix.astype(np.float32).reshape(-1, 32):
        if kind == "q8_0":
            d = np.float16(np.abs(block).max() / 127)
            q = np.clip(np.rint(block / np.float32(d)), -128, 127).astype(np.int8)
            data += d.tobytes() + q.tobytes()
            numbers.append(q.astype(np.float32) * np.float32(d))
            continue
        bits, symmetric = int(kind[1]), kind[3] == "0"
        steps = (1 << bits) - 1
        if symmetric:
            d = np.float16(np.abs(block).max() / (1 << (bits - 1)))
            low = np.float32(d) * -np.float32(1 << (bits - 1))
        else:
            m = np.float16(block.min())
            d, low = np.float16((block.max() - np.float32(m)) / steps), np.float32(m)
        q = np.clip(np.rint((block - low) / np.float32(d)), 0, steps).astype(np.uint32)
        data += d.tobytes() + (b"" if symmetric else m.tobytes())
        if bits == 5:  # the fifth bits first, one for each number
            data += struct.pack("<I", int(sum(int(v >> 4) << n for n, v in enumerate(q))))
        data += bytes(int((q[n] & 15) | (q[n + 16] & 15) << 4) for n in range(16))
        numbers.append(q.astype(np.float32) * np.float32(d) + low)
    return data, np.array(numbers, np.float32).reshape(matrix.shape)


def rwkv_cpp_tensors(weights, version):
    """The converter's changes, in fp32."""
    out = {}
    for name, v in weights.items():
        v, last = v.astype(np.float32), name.split(".")[-1]
        if last.startswith("x_") and ".att." in name:
            packed = name[: -len(last)] + "x_rwkvag"
            out[packed] = np.concatenate([out[packed], v]) if packed in out else v
            continue
        if ".time_" in name:
            v = v.squeeze()
        if is_factor(name):
            v = v.swapaxes(-1, -2)
        if version == "4" and last == "time_decay":
            v = -np.exp(v)
        if version[0] == "5":
            if last == "time_decay":
                v = np.exp(-np.exp(v))
                v = v[..., None] if version != "5.0" else v.reshape(-1, 1, 1)
            if last == "time_first":
                v = np.exp(v).reshape(-1, 1, 1)
        if version == "6" and last == "time_decay":
            v = v.reshape(HEADS, -1, 1)
        if last == "time_faaaa":
            v = v[..., None]
        out[name] = v
    return out


def rwkv_cpp(weights, version, path, file_version=101, matrices="f16"):
    """matrices: "f16", or a list of formats that the quantised matrices take in turn. Returns the numbers that
    the matrices then hold."""
    held, count = dict(weights), 0
    first = TYPES[matrices if isinstance(matrices, str) else matrices[0]]
    data = struct.pack("<6i", 0x67676D66, file_version, VOCAB, WIDTH, layers_of(version), first)
    for name, v in rwkv_cpp_tensors(weights, version).items():
        if name.endswith("time_state"):
            continue
        kind = "f32"
        if v.ndim == 2 and name.endswith(".weight"):
            kind = "f16"
            if not isinstance(matrices, str) and name not in ("emb.weight", "head.weight"):
                kind = matrices[count % len(matrices)]
                count += 1
        if kind.startswith("q"):
            raw, held[name] = quantise(v, kind)
        else:
            raw = np.ascontiguousarray(v.astype({"f32": np.float32, "f16": np.float16}[kind])).tobytes()
        data += struct.pack("<3i", v.ndim, len(name), TYPES[kind])
        data += struct.pack(f"<{v.ndim}i", *reversed(v.shape)) + name.encode() + raw
    path.write_bytes(data)
    return held


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    models = {v: official(v, seed) for seed, v in enumerate(("4", "5.0", "5.1", "5.2", "6", "7"))}
    for version, weights in models.items():
        stem = "v" + version.replace(".", "_")
        save(weights, folder / f"{stem}.safetensors")
        rwkv_cpp(weights, version, folder / f"{stem}.rwkv_cpp.bin", 100 if version == "4" else 101)
        if version not in ("4", "5.0"):
            save(web_rwkv(weights, version), folder / f"{stem}.web_rwkv.st")
    save(transformers_v4(models["4"]), folder / "v4.transformers.safetensors")
    save(transformers_v4(models["6"]), folder / "v6.transformers.safetensors")
    v7 = models["7"]
    save({(k if k == "head.weight" else "rwkv7." + k): v for k, v in v7.items()}, folder / "v7.transformers.safetensors")
    config = {"architectures": ["RWKV7ForCausalLM"], "model_type": "rwkv7", "head_dim": SIZE, "norm_eps": 4e-5,
              "hidden_size": WIDTH, "tie_word_embeddings": False, "value_dim": [WIDTH] * layers_of("7"), "attn": None}
    shards(fla(v7, packed=False), folder / "v7.fla", 3, config)
    tied = {k: v for k, v in v7.items() if k != "head.weight"}
    save(fla(tied, packed=True), folder / "v7_tied.fla.safetensors")
    formats = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"]
    for version in ("4", "7"):
        held = rwkv_cpp(models[version], version, folder / f"v{version}_quantised.rwkv_cpp.bin", matrices=formats)
        save(held, folder / f"v{version}_quantised.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "src/formats/testdata/layouts")
