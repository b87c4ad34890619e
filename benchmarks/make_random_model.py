"""A file of random weights in the shape of a real model, for measuring speed where that is not at hand.

    python benchmarks/make_random_model.py olmoe olmoe-q4_0.gguf --format q4_0
    python benchmarks/make_random_model.py qwen3-30b-a3b small.gguf --format q8_0 --layers 2
    python benchmarks/make_random_model.py olmoe uniform-q4_0.gguf --embedding 8

Weights are drawn from N(0, 0.02): blocks of numbers are encoded once, and every matrix is a seeded choice
among them, so that a file of some GB takes some seconds and some MB of memory. The tokenizer knows the 256
bytes and a few hundred pairs of letters; the rest of the vocabulary is unused. llama.cpp loads the file as
well.

What attention adds outweighs so small an embedding, and is alike from token to token: many experts of one
token are the next one's as well. With `--embedding 8` the token outweighs it, and routes of random tokens
are uniform, in every program that runs the file.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from apportion.formats.block import BlockFormat, Bytes
from apportion.formats.blocks import FORMATS, format_by_name
from apportion.formats.gguf import write_gguf

DEVIATION = 0.02
POOL_NUMBERS = 1 << 21  # encoded once per format
CHUNK_NBYTES = 8 << 20  # written at a time
LETTERS = "etaoinshrdlucmfwypvb"
UNUSED, CONTROL, NORMAL = 5, 3, 1  # ggml's types of tokens


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model's matrices are like.

    Attributes:
        qk_norm: whether queries and keys are normalized head by head, or "all" heads together.
    """

    architecture: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    experts: int
    experts_used: int
    expert_size: int
    vocabulary: int
    context: int
    rope_base: float
    qk_norm: str

    def metadata(self) -> dict[str, Any]:
        keys = {
            "block_count": self.layers,
            "context_length": self.context,
            "embedding_length": self.hidden,
            "feed_forward_length": self.expert_size,
            "attention.head_count": self.heads,
            "attention.head_count_kv": self.kv_heads,
            "attention.key_length": self.head_size,
            "attention.value_length": self.head_size,
            "attention.layer_norm_rms_epsilon": 1e-5,
            "rope.freq_base": self.rope_base,
            "rope.dimension_count": self.head_size,
            "expert_count": self.experts,
            "expert_used_count": self.experts_used,
            "expert_feed_forward_length": self.expert_size,
            "vocab_size": self.vocabulary,
        }
        general = {"general.architecture": self.architecture, "general.name": f"random {self.architecture}"}
        return general | {f"{self.architecture}.{key}": value for key, value in keys.items()}

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes, in the order of the file."""
        q, kv = self.heads * self.head_size, self.kv_heads * self.head_size
        norms = (q, kv) if self.qk_norm == "all" else (self.head_size, self.head_size)
        yield "token_embd.weight", (self.vocabulary, self.hidden)
        for layer in range(self.layers):
            parts: dict[str, tuple[int, ...]] = {
                "attn_norm": (self.hidden,),
                "attn_q": (q, self.hidden),
                "attn_k": (kv, self.hidden),
                "attn_v": (kv, self.hidden),
                "attn_q_norm": (norms[0],),
                "attn_k_norm": (norms[1],),
                "attn_output": (self.hidden, q),
                "ffn_norm": (self.hidden,),
                "ffn_gate_inp": (self.experts, self.hidden),
                "ffn_gate_exps": (self.experts, self.expert_size, self.hidden),
                "ffn_up_exps": (self.experts, self.expert_size, self.hidden),
                "ffn_down_exps": (self.experts, self.hidden, self.expert_size),
            }
            yield from ((f"blk.{layer}.{name}.weight", shape) for name, shape in parts.items())
        yield "output_norm.weight", (self.hidden,)
        yield "output.weight", (self.vocabulary, self.hidden)


SHAPES = {
    "olmoe": Shape("olmoe", 16, 2048, 16, 16, 128, 64, 8, 1024, 50304, 4096, 10000.0, "all"),
    "qwen3-30b-a3b": Shape("qwen3moe", 48, 2048, 32, 4, 128, 128, 8, 768, 151936, 40960, 1e6, "head"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("out", type=Path)
    writable = [name for name, block_format in FORMATS.items() if block_format.encode]
    parser.add_argument("--format", default="q4_0", choices=writable, help="of matrices [default: q4_0]")
    parser.add_argument("--layers", type=int, help="fewer or more than the real model's")
    parser.add_argument(
        "--embedding", type=float, default=DEVIATION, help=f"deviation of embeddings [default: {DEVIATION}]"
    )
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    shape = SHAPES[wanted.shape]
    if wanted.layers is not None:
        shape = replace(shape, layers=wanted.layers)
    make(shape, wanted.out, format_by_name(wanted.format), wanted.seed, wanted.embedding)
    print(f"{wanted.out}: {wanted.out.stat().st_size / 1e9:.2f} GB")


def make(
    shape: Shape, out: Path, block_format: BlockFormat, seed: int = 0, embedding: float = DEVIATION
) -> None:
    """Write the file; the same arguments give the same bytes.

    Args:
        embedding: deviation of the embeddings' numbers; that of all others is 0.02.
    """
    rng = np.random.default_rng(seed)
    rows: dict[str, Any] = {}
    pools = {one.name: pool_of(one, rng) for one in (block_format, format_by_name("f32"))}
    embeddings = pools[block_format.name]
    if embedding != DEVIATION:
        embeddings = pool_of(block_format, rng, embedding)
    for name, dims in shape.tensors():
        chosen = format_of(name, dims, block_format)
        count = prod(dims) // chosen.block_size
        if len(dims) == 1:  # norms
            rows[name] = (chosen, dims, lambda width=dims[0]: np.ones(width, np.float32).view(np.uint8))
        else:
            pool = embeddings if name == "token_embd.weight" else pools[chosen.name]
            rows[name] = (chosen, dims, lambda pool=pool, count=count: drawn(pool, count, rng))
    metadata = shape.metadata() | tokenizer(shape.vocabulary)
    write_gguf(out, metadata, [(name, *row) for name, row in rows.items()])


def format_of(name: str, dims: tuple[int, ...], wanted: BlockFormat) -> BlockFormat:
    """Norms and routers are kept in f32, as converters do."""
    plain = len(dims) == 1 or "ffn_gate_inp" in name
    return format_by_name("f32") if plain else wanted


def pool_of(block_format: BlockFormat, rng: np.random.Generator, deviation: float = DEVIATION) -> Bytes:
    """Blocks [n, block_nbytes] of normally distributed numbers."""
    numbers = rng.standard_normal((1, POOL_NUMBERS), np.float32) * np.float32(deviation)
    return block_format.quantize(numbers).reshape(-1, block_format.block_nbytes)


def drawn(pool: Bytes, count: int, rng: np.random.Generator) -> Iterator[Bytes]:
    """`count` blocks of the pool, drawn with replacement, chunk by chunk."""
    step = max(1, CHUNK_NBYTES // pool.shape[1])
    for start in range(0, count, step):
        yield pool[rng.integers(0, len(pool), min(step, count - start), dtype=np.uint32)]


def tokenizer(vocabulary: int) -> dict[str, Any]:
    """A byte-level tokenizer of the 256 bytes, two control tokens and pairs of letters."""
    pairs = [(a, b) for a in LETTERS for b in LETTERS]
    tokens = [*byte_symbols(), "<|begin|>", "<|end|>", *(a + b for a, b in pairs)]
    types = [NORMAL] * 256 + [CONTROL] * 2 + [NORMAL] * len(pairs)
    unused = vocabulary - len(tokens)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens + [f"<|unused {i}|>" for i in range(unused)],
        "tokenizer.ggml.token_type": types + [UNUSED] * unused,
        "tokenizer.ggml.merges": [f"{a} {b}" for a, b in pairs],
        "tokenizer.ggml.bos_token_id": 256,
        "tokenizer.ggml.eos_token_id": 257,
        "tokenizer.ggml.add_bos_token": True,
    }


def byte_symbols() -> list[str]:
    """GPT-2's visible stand-ins for the 256 bytes."""
    visible = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = iter(range(256, 512))
    return [chr(byte if byte in visible else next(hidden)) for byte in range(256)]


if __name__ == "__main__":
    main()
