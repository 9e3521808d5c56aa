#!/usr/bin/env python3
"""Expected values for the sampler's profile `rwkv`, computed by the code of the PyPI package `rwkv` itself.

    pip download rwkv --no-deps && unzip rwkv-*.whl
    tools/sampler_goldens.py rwkv/utils.py > src/sample/pip_goldens.inc

Needs numpy >= 2 only: torch is replaced by the few operations that the code uses, in float32. numpy.random.choice is
replaced too: it records the distribution that it was given and draws from it with the generator of sample/random.h.
"""
import importlib.util
import sys
import types

import numpy as np

MASK = (1 << 64) - 1


def mix64(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def random_uniform(seed, step):
    return (mix64((mix64(seed) + (step + 1) * 0x9E3779B97F4A7C15) & MASK) >> 11) * 2.0**-53


class Row(np.ndarray):
    """What the package's code asks of a torch tensor on the CPU."""

    device = types.SimpleNamespace(type="cpu")

    def float(self):
        return self

    def cpu(self):
        return self

    def numpy(self):
        return np.array(self)


def make_logits(case, size, granularity):
    """Integer hashes as multiples of 1 / granularity in [-4, 4): exact in float32. The tests build the same."""
    steps = 8 * granularity
    values = [mix64(case * 1000 + i) % steps / granularity - 4 for i in range(size)]
    return np.array(values, dtype=np.float32).view(Row)


def softmax(x, dim):
    assert dim == -1
    e = np.exp(x - x.max())
    return (e / e.sum(dtype=np.float32)).view(Row)


def load_package(path):
    torch, nn, functional = (types.ModuleType(n) for n in ("torch", "torch.nn", "torch.nn.functional"))
    functional.softmax = softmax
    torch.nn, nn.functional = nn, functional
    sys.modules.update({"torch": torch, "torch.nn": nn, "torch.nn.functional": functional})
    spec = importlib.util.spec_from_file_location("pip_rwkv_utils", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Choice:
    """Stands for numpy.random.choice."""

    def __init__(self):
        self.seed, self.step, self.p = 0, 0, None

    def __call__(self, a, p):
        self.p = np.array(p, dtype=np.float64)
        target = random_uniform(self.seed, self.step) * sum(self.p)
        self.step += 1
        reached = 0.0
        for i in range(a):
            reached += self.p[i]
            if reached > target:
                return i
        return a - 1


class ToyModel:
    def forward(self, tokens, state):
        step = state or 0
        return make_logits(step * 64 + tokens[-1], 48, 512), step + 1


class ToyVocabulary:
    """Ids 0..9 digits, then texts that are and are not parts of ' \\t0123456789', then letters."""

    special = [" ", "\t", "12", "90", "", " \t0", "0 ", "a1"]

    def decode(self, ids):
        return "".join(str(i) if i < 10 else self.special[i - 10] if i < 18 else chr(65 + i) for i in ids)

    def encode(self, text):
        return [1] if text else []


def distributions(pipeline, choice):
    cases = [(t, p, k, 512) for t in (1.0, 0.5, 2.0) for p, k in ((0.85, 0), (0.3, 0), (0.0, 0), (0.95, 5), (0.5, 3))]
    cases += [(1.0, p, 0, 1) for p in (0.2, 0.5, 0.7, 0.9)] + [(1.7, 0.4, 0, 1)]  # many equal logits
    for number, (temperature, top_p, top_k, granularity) in enumerate(cases):
        logits = make_logits(number, 32, granularity)
        pipeline.sample_logits(logits, temperature=temperature, top_p=top_p, top_k=top_k)
        kept = ", ".join(f"{{{i}, {choice.p[i]:.9g}}}" for i in range(32) if choice.p[i] > 0)
        yield f"    {{{temperature}, {top_p}, {top_k}, {granularity}, {{{kept}}}}},"


def sequences(module, pipeline, choice):
    settings = [
        dict(temperature=1.0, top_p=0.85, top_k=0, alpha_frequency=0.5, alpha_presence=0.5, alpha_decay=0.996),
        dict(temperature=0.7, top_p=0.9, top_k=12, alpha_frequency=1.5, alpha_presence=0.25, alpha_decay=0.8),
        dict(temperature=1.3, top_p=0.6, top_k=0, alpha_frequency=0.0, alpha_presence=2.0, alpha_decay=0.9),
    ]
    for number, s in enumerate(settings):
        choice.seed, choice.step = 0xFEDCBA9876543210 + number, 0
        drawn = []
        pipeline.model, pipeline.tokenizer = ToyModel(), ToyVocabulary()
        sample = pipeline.sample_logits
        pipeline.sample_logits = lambda *a, **k: drawn.append(sample(*a, **k)) or drawn[-1]
        pipeline.generate("x", token_count=64, args=module.PIPELINE_ARGS(token_ban=[20, 31], **s))
        pipeline.sample_logits = sample
        values = ", ".join(str(s[k]) for k in ("temperature", "top_p", "top_k", "alpha_frequency", "alpha_presence", "alpha_decay"))
        yield f"    {{{values}, {{{', '.join(map(str, drawn))}}}}},"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    module = load_package(sys.argv[1])
    pipeline = object.__new__(module.PIPELINE)
    choice = Choice()
    np.random.choice = choice
    print("// Made by tools/sampler_goldens.py with the PyPI package `rwkv` 0.8.32. Do not edit.")
    print("// temperature, top_p, top_k, granularity of the logits, {id, probability} of what is left")
    print("const std::vector<PipDistribution> pip_distributions = {")
    print("\n".join(distributions(pipeline, choice)))
    print("};")
    print("// temperature, top_p, top_k, frequency, presence, decay, sampled tokens")
    print("const std::vector<PipSequence> pip_sequences = {")
    print("\n".join(sequences(module, pipeline, choice)))
    print("};")


if __name__ == "__main__":
    main()
