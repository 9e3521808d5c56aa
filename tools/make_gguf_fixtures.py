#!/usr/bin/env python3
"""Writes src/formats/testdata/*.gguf with the PyPI package gguf: small RWKV-6 and RWKV-7 models as llama.cpp has them.

gguf_fixtures.json beside them has the official names and shapes of their tensors, and sums over the numbers that the
package itself reads back: plain, and weighted by place, so that a transposed tensor is noticed. The committed files
were made with gguf 0.19.0 and numpy 2.
"""
import json
import sys
from pathlib import Path

import gguf
import numpy
from gguf import GGMLQuantizationType as Type
from gguf import quants

LERPS = {6: "wkvrg", 7: "rwkvag"}
MIX = {6: "att.time_maa_", 7: "att.x_"}
COMMON = {
    "ln1.weight": "attn_norm.weight",
    "ln1.bias": "attn_norm.bias",
    "ln2.weight": "attn_norm_2.weight",
    "ln2.bias": "attn_norm_2.bias",
    "att.ln_x.weight": "time_mix_ln.weight",
    "att.ln_x.bias": "time_mix_ln.bias",
    "ffn.key.weight": "channel_mix_key.weight",
    "ffn.value.weight": "channel_mix_value.weight",
    "ffn.receptance.weight": "channel_mix_receptance.weight",
    **{f"att.{m}.weight": f"time_mix_{m}.weight" for m in ["receptance", "key", "value", "gate", "output"]},
}
OWN = {
    6: {
        "att.time_maa_x": "time_mix_lerp_x.weight",
        "att.time_maa_w1": "time_mix_w1.weight",
        "att.time_maa_w2": "time_mix_w2.weight",
        "att.time_faaaa": "time_mix_first.weight",
        "att.time_decay": "time_mix_decay.weight",
        "att.time_decay_w1": "time_mix_decay_w1.weight",
        "att.time_decay_w2": "time_mix_decay_w2.weight",
        "ffn.time_maa_k": "channel_mix_lerp_k.weight",
        "ffn.time_maa_r": "channel_mix_lerp_r.weight",
    },
    7: {
        **{f"att.{n}{i}": f"time_mix_{n}{i}.weight" for n in "wavg" for i in "012"},
        **{f"att.{n}": f"time_mix_{n}.weight" for n in ["k_k", "k_a", "r_k"]},
        "ffn.x_k": "channel_mix_lerp_k.weight",
    },
}
GLOBAL = {
    "emb.weight": "token_embd.weight",
    "blocks.0.ln0.weight": "token_embd_norm.weight",
    "blocks.0.ln0.bias": "token_embd_norm.bias",
    "ln_out.weight": "output_norm.weight",
    "ln_out.bias": "output_norm.bias",
    "head.weight": "output.weight",
}


def official_model(version, layers, width, head, ffn, vocab, rank, rng):
    """Random weights under the official names."""
    heads = width // head

    def normal(*shape, scale=0.1):
        return rng.normal(0, scale, shape).astype(numpy.float32)

    def norm(name):
        return {f"{name}.weight": 1 + normal(width), f"{name}.bias": normal(width)}

    def matrix(out, inner):
        return normal(out, inner, scale=inner**-0.5)

    m = {"emb.weight": normal(vocab, width, scale=0.5), **norm("blocks.0.ln0")}
    for i in range(layers):
        b = {**norm("ln1"), **norm("ln2"), **norm("att.ln_x")}
        for name in ["receptance", "key", "value", "output"] + ["gate"] * (version == 6):
            b[f"att.{name}.weight"] = matrix(width, width)
        for mix in LERPS[version]:
            b[MIX[version] + mix] = rng.uniform(0, 1, (1, 1, width)).astype(numpy.float32)
        b["ffn.key.weight"], b["ffn.value.weight"] = matrix(ffn, width), matrix(width, ffn)
        if version == 6:
            b["att.time_maa_x"] = normal(1, 1, width)
            b["att.time_maa_w1"], b["att.time_maa_w2"] = normal(width, 5 * rank), normal(5, rank, width)
            b["att.time_decay"], b["att.time_faaaa"] = normal(1, 1, width, scale=1), normal(heads, head)
            b["att.time_decay_w1"], b["att.time_decay_w2"] = normal(width, rank), normal(rank, width)
            b["ffn.time_maa_k"], b["ffn.time_maa_r"] = normal(1, 1, width), normal(1, 1, width)
            b["ffn.receptance.weight"] = matrix(width, width)
        else:
            for n in "wavg" if i > 0 else "wag":
                b[f"att.{n}1"], b[f"att.{n}2"] = normal(width, rank), normal(rank, width)
                if n != "g":
                    b[f"att.{n}0"] = normal(1, 1, width)
            b["att.k_k"], b["att.k_a"] = 1 + normal(1, 1, width), normal(1, 1, width)
            b["att.r_k"], b["ffn.x_k"] = normal(heads, head), normal(1, 1, width)
        m.update({f"blocks.{i}.{name}": value for name, value in b.items()})
    return {**m, **norm("ln_out"), "head.weight": matrix(vocab, width)}


def random_blocks(kind, shape, rng):
    """Formats that the package reads and cannot make: random blocks whose scales give numbers of about 0.06."""
    size, width = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (shape[0], shape[1] // size, width), dtype=numpy.uint8)
    scales = {
        Type.Q2_K: [(80, 5e-3), (82, 7.5e-3)],
        Type.Q3_K: [(108, 1.5e-3)],
        Type.Q4_K: [(0, 1.5e-4), (2, 1.1e-3)],
        Type.Q5_K: [(0, 8e-5), (2, 1.2e-3)],
        Type.Q6_K: [(208, 7e-5)],
        Type.IQ4_NL: [(0, 1e-3)],
    }
    for at, scale in scales[kind]:
        blocks[:, :, at : at + 2] = numpy.frombuffer(numpy.float16(scale).tobytes(), numpy.uint8)
    return blocks.reshape(shape[0], -1)


def encode(values, kind, rng):
    if kind in (Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K, Type.IQ4_NL):
        return random_blocks(kind, values.shape, rng)
    return quants.quantize(values, kind)


def write(path, version, model, head, layers, kind_of, rng, fused=True, rescale=0, alignment=None, tokens=None):
    """Returns the official tensors as the numbers in the file give them."""
    writer = gguf.GGUFWriter(path, f"rwkv{version}")
    if alignment:
        writer.add_custom_alignment(alignment)
    width = model["emb.weight"].shape[1]
    writer.add_name(path.stem)
    writer.add_context_length(1048576)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(model["blocks.0.ffn.key.weight"].shape[0])
    writer.add_layer_norm_eps(1e-5)
    writer.add_wkv_head_size(head)
    writer.add_head_count(0)
    if version == 6:
        writer.add_rescale_every_n_layers(rescale)
        writer.add_time_mix_extra_dim(model["blocks.0.att.time_maa_w2"].shape[1])
        writer.add_time_decay_extra_dim(model["blocks.0.att.time_decay_w1"].shape[1])
    else:
        writer.add_decay_lora_rank(model["blocks.0.att.w1"].shape[1])
        writer.add_iclr_lora_rank(model["blocks.0.att.a1"].shape[1])
        writer.add_value_residual_mix_lora_rank(model["blocks.0.att.a1"].shape[1])
        writer.add_gate_lora_rank(model["blocks.0.att.g1"].shape[1])
    writer.add_array("test.numbers", [1, 2, 3])
    writer.add_bool("test.bool", True)
    writer.add_float64("test.float64", 0.1)
    writer.add_int8("test.int8", -5)
    writer.add_uint64("test.uint64", 2**63)
    if tokens:
        writer.add_tokenizer_model("rwkv")
        writer.add_token_list(tokens)
    read_back = {}

    def add(name, values, kind):
        data = encode(values, kind, rng)
        writer.add_tensor(name, data, raw_dtype=kind)
        return quants.dequantize(data, kind).reshape(values.shape)

    for official, name in GLOBAL.items():
        read_back[official] = add(name, model[official], kind_of(official))
    for i in range(layers):
        mine = {k.removeprefix(f"blocks.{i}."): v for k, v in model.items() if k.startswith(f"blocks.{i}.") and ".ln0." not in k}
        for official, name in {**COMMON, **OWN[version]}.items():
            values = mine.get(official)
            if values is None:
                continue
            if rescale and official in ("att.output.weight", "ffn.value.weight"):
                values = values / 2 ** (i // rescale)
            low_rank = official[-2:] in ("w1", "w2", "a1", "a2", "v1", "v2", "g1", "g2")
            stored = values.swapaxes(-1, -2) if low_rank else values.reshape(-1) if official == "att.r_k" else values
            stored = stored.reshape(-1) if stored.shape[:2] == (1, 1) else numpy.ascontiguousarray(stored)
            back = add(f"blk.{i}.{name}", stored, kind_of(official))
            read_back[f"blocks.{i}.{official}"] = back.swapaxes(-1, -2) if low_rank else back.reshape(values.shape)
            if i == 0 and official in ("att.a0", "att.a1", "att.a2"):  # llama.cpp's dummies
                add(f"blk.0.{name.replace('_a', '_v')}", stored, kind_of(official))
        lerps = [mine[MIX[version] + mix] for mix in LERPS[version]]
        for mix, values in zip(LERPS[version], lerps):
            read_back[f"blocks.{i}.{MIX[version]}{mix}"] = values
            if not fused:
                add(f"blk.{i}.time_mix_lerp_{mix}.weight", values.reshape(-1), Type.F32)
        if fused:
            add(f"blk.{i}.time_mix_lerp_fused.weight", numpy.stack(lerps), Type.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_back


def sums(values):
    flat = numpy.asarray(values, numpy.float64).reshape(-1)
    weights = numpy.arange(flat.size) * 7919 % 1009 - 504
    return {"shape": list(values.shape), "sum": float(flat.sum()), "weighted": float((flat * weights).sum())}


def is_matrix(name):
    return name.endswith(".weight") and "ln" not in name


def main(folder):
    rng = numpy.random.default_rng(20)
    low_rank = ("w1", "w2", "a1", "a2", "v1", "v2", "g1", "g2")

    def half(name):
        return Type.F16 if is_matrix(name) or name[-2:] in low_rank else Type.F32

    def legacy(name):  # llama.cpp keeps low-rank matrices as they are; a reader should not rely on it
        kinds = {"emb": Type.BF16, "att.key": Type.Q4_0, "att.value": Type.Q4_1, "receptance": Type.Q5_0, "gate": Type.Q5_1}
        if name[-2:] in low_rank:
            return Type.Q8_0
        return next((k for part, k in kinds.items() if part in name), Type.Q8_0 if is_matrix(name) else Type.F32)

    def k_quants(name):
        kinds = {"att.key": Type.Q4_K, "att.value": Type.Q6_K, "receptance": Type.Q5_K, "output": Type.Q3_K}
        kinds |= {"ffn.key": Type.Q2_K, "ffn.value": Type.IQ4_NL}
        return next((k for part, k in kinds.items() if part in name), half(name))

    tokens = [b"<s>", b"\\n", b"a", b"\\xff", b"\xff\x00\xfe", b"", *[f"[PAD{i}]".encode() for i in range(6, 16)]]
    files = {
        "v6_separate": (6, dict(layers=2, width=32, head=16, ffn=48, vocab=16, rank=4), half, dict(fused=False, rescale=1)),
        "v6_legacy": (6, dict(layers=2, width=32, head=16, ffn=64, vocab=16, rank=32), legacy, {}),
        "v7_half": (7, dict(layers=2, width=32, head=16, ffn=48, vocab=16, rank=4), half, dict(alignment=64, tokens=tokens)),
        "v7_k_quants": (7, dict(layers=1, width=256, head=64, ffn=32, vocab=16, rank=4), k_quants, {}),
    }
    expected = {}
    for name, (version, sizes, kind_of, options) in files.items():
        model = official_model(version, **sizes, rng=rng)
        layout = dict(head=sizes["head"], layers=sizes["layers"])
        numbers = write(folder / f"{name}.gguf", version, model, **layout, kind_of=kind_of, rng=rng, **options)
        expected[name] = {official: sums(values) for official, values in numbers.items()}
    lines = [f'"{name}": {{\n' + ",\n".join(f'"{k}": {json.dumps(v)}' for k, v in tensors.items()) + "}" for name, tensors in expected.items()]
    (folder / "gguf_fixtures.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "src/formats/testdata")
