"""Tiny models of every family: one entry each in TINY, used by every test that needs a model.

`tiny_gguf("gemma3", folder)` writes a GGUF file with random weights and a small byte-level tokenizer, in some
milliseconds and without torch. `tiny_model("gemma3", folder)` loads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from apportion.formats.block import BlockFormat, Bytes
from apportion.formats.blocks import format_by_name
from apportion.formats.checkpoint import Checkpoint
from apportion.formats.gguf import open_gguf, write_gguf
from apportion.kernels import Ops, ReferenceOps
from apportion.models import Model, ModelConfig, load_model
from apportion.models.family import FAMILIES
from apportion.models.layout import Slot, canonical_slots
from apportion.models.loading import config_from_checkpoint
from apportion.models.read_hf import read_hf
from apportion.models.recipes import Reader
from apportion.models.resolve import resolve

VOCAB = 320
WINDOW = 20

BASE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 257,
}
MOE: dict[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0 + 0.05 * i for i in range(6)],
    "long_factor": [1.0 + 0.7 * i for i in range(6)],
}
PHI3 = {"sliding_window": WINDOW, "partial_rotary_factor": 0.75, "rope_parameters": LONGROPE}
MLA = {
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-6,  # transformers takes it for the latent's norms whatever is stated
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 24,
    "qk_rope_head_dim": 16,
    "v_head_dim": 20,
    "n_routed_experts": 8,
    "first_k_dense_replace": 1,
    **MOE,
}

# One entry per shape of model, by the family's name first: what its config.json says.
TINY: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "llama-tied": {"model_type": "llama", "num_attention_heads": 8, "tie_word_embeddings": True},
    "llama-scaled": {"model_type": "llama", "rope_parameters": LLAMA3},
    "llama-linear": {
        "model_type": "llama",
        "attention_bias": True,
        "rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
    },
    "llama-mistral": {"model_type": "mistral", "sliding_window": WINDOW, "head_dim": 24},
    "gemma2": {
        "model_type": "gemma2",
        "head_dim": 32,
        "query_pre_attn_scalar": 24,
        "sliding_window": WINDOW,
        "attn_logit_softcapping": 3.0,
        "final_logit_softcapping": 2.0,
        "tie_word_embeddings": True,
    },
    "gemma3": {
        "model_type": "gemma3_text",
        "head_dim": 32,
        "query_pre_attn_scalar": 24,
        "num_hidden_layers": 4,
        "num_key_value_heads": 1,
        "sliding_window": WINDOW,
        "sliding_window_pattern": 3,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
        "tie_word_embeddings": True,
    },
    "qwen2": {"model_type": "qwen2"},
    "qwen2-window": {
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": WINDOW,
        "max_window_layers": 1,
    },
    "qwen3": {"model_type": "qwen3", "head_dim": 40},
    "qwen3-yarn": {"model_type": "qwen3", "head_dim": 40, "rope_parameters": YARN},
    "phi3": {"model_type": "phi3", **PHI3, "original_max_position_embeddings": 128},
    "phi3-long": {"model_type": "phi3", **PHI3, "original_max_position_embeddings": 48},
    "mixtral": {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
    "olmoe": {
        "model_type": "olmoe",
        "num_experts": 8,
        "num_experts_per_tok": 3,
        "intermediate_size": 32,
        "clip_qkv": 1.5,
    },
    "qwen2moe": {"model_type": "qwen2_moe", "num_experts": 6, "shared_expert_intermediate_size": 48, **MOE},
    "qwen3moe": {"model_type": "qwen3_moe", "num_experts": 8, "norm_topk_prob": True, "head_dim": 24, **MOE},
    "qwen3moe-sparse": {
        "model_type": "qwen3_moe",
        "num_experts": 8,
        "head_dim": 24,
        "mlp_only_layers": [1],
        **MOE,
    },
    "gpt_oss": {
        "model_type": "gpt_oss",
        "head_dim": 16,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "intermediate_size": 32,
        "sliding_window": WINDOW,
        "rope_parameters": {**YARN, "rope_theta": 150000.0, "truncate": False},
    },
    "deepseek2-lite": {
        "model_type": "deepseek_v2",
        "q_lora_rank": None,
        "n_shared_experts": 2,
        **MLA,
        "rope_parameters": {**YARN, "mscale": 0.707, "mscale_all_dim": 0.707},
    },
    "deepseek2": {
        "model_type": "deepseek_v2",
        "q_lora_rank": 48,
        "n_shared_experts": 1,
        "topk_method": "group_limited_greedy",
        "n_group": 4,
        "topk_group": 2,
        "routed_scaling_factor": 3.0,
        **MLA,
    },
    "deepseek2-v3": {
        "model_type": "deepseek_v3",
        "q_lora_rank": 48,
        "n_shared_experts": 1,
        "n_group": 4,
        "topk_group": 2,
        "routed_scaling_factor": 2.5,
        "norm_topk_prob": True,
        **MLA,
        "rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0},
    },
    "granitemoe": {
        "model_type": "granitemoe",
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.5,
        "attention_multiplier": 0.2,
        "logits_scaling": 2.0,
        "tie_word_embeddings": True,
    },
}
NOT_IN_GGUF = {"qwen3moe-sparse"}  # GGUF cannot say which layers are dense, beyond leading ones
IN_GGUF = [name for name in TINY if name not in NOT_IN_GGUF]
FUSED = {"phi3"}  # families whose GGUF files hold fused projections

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|begin|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|begin|>assistant\n{% endif %}"
)


def tiny_hf_config(name: str) -> dict[str, Any]:
    """The entry's `config.json`."""
    return {**BASE, **TINY[name]}


def tiny_config(name: str) -> ModelConfig:
    """The entry's configuration."""
    family = name.split("-")[0]
    return read_hf(family, FAMILIES.get(family), tiny_hf_config(name))


def tiny_gguf(name: str, folder: Path, *, block_format: str = "f32", seed: int = 0) -> Path:
    """A GGUF file of random weights; matrices are in `block_format` where their rows are whole blocks of
    it.
    """
    config = tiny_config(name)
    wanted = format_by_name(block_format)
    rng = np.random.default_rng(seed)
    tensors = []
    for slot in canonical_slots(config):
        if slot.name == "rope_freqs.weight":
            continue
        if slot.name == "output.weight" and config.tied_head is None:
            continue
        if slot.required or slot.name.endswith("output.weight"):
            tensors.append((slot, *_encoded(slot, random_values(slot, rng), wanted)))
    path = folder / f"{name}.gguf"
    write_canonical(path, config, tensors)
    return path


def random_values(slot: Slot, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Numbers that keep activations and logits at order one."""
    if slot.kind == "matrix":
        scale = slot.shape[-1] ** -0.5
        return rng.normal(0, scale, slot.shape).astype(np.float32)
    values = rng.normal(0, 0.1, slot.shape).astype(np.float32)
    is_norm = "norm" in slot.name or slot.name.startswith("rope_factors")
    return (np.abs(values) + 1).astype(np.float32) if is_norm else values


def _encoded(slot: Slot, values: np.ndarray[Any, Any], wanted: BlockFormat) -> tuple[BlockFormat, Bytes]:
    fits = slot.kind == "matrix" and slot.shape[-1] % wanted.block_size == 0
    chosen = wanted if fits else format_by_name("f32")
    return chosen, chosen.quantize(values)


def canonical_copy(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint as GGUF, through the recipes that loading uses."""
    config = config_from_checkpoint(checkpoint)
    tensors = []
    for slot, recipe in resolve(config, checkpoint.tensors).recipes.items():
        block_format = recipe.format(checkpoint.tensors)
        count = int(np.prod(slot.shape))
        data = np.empty(count // block_format.block_size * block_format.block_nbytes, dtype=np.uint8)
        recipe.fill(Reader(checkpoint), data)
        tensors.append((slot, block_format, data))
    write_canonical(path, config, tensors)


def write_canonical(
    path: Path, config: ModelConfig, tensors: Iterable[tuple[Slot, BlockFormat, Bytes]]
) -> None:
    """Canonical tensors and their configuration as a GGUF file, named and fused as the family's files are."""
    renamed = FAMILIES.get(config.family).gguf_names
    named: dict[str, tuple[BlockFormat, tuple[int, ...], Bytes]] = {}
    for slot, block_format, data in tensors:
        *prefix, rest = slot.name.split(".", 2) if slot.name.startswith("blk.") else [slot.name]
        name = ".".join([*prefix, renamed.get(rest, rest)])
        named[name] = (block_format, slot.shape, data)
    if config.rope.scaling.kind == "llama3":
        named["rope_freqs.weight"] = _rope_freqs(config)
    if config.family in FUSED:
        for layer_number in range(config.num_layers):
            prefix = f"blk.{layer_number}."
            _fuse(named, prefix, ("attn_q", "attn_k", "attn_v"), "attn_qkv")
            _fuse(named, prefix, ("ffn_gate", "ffn_up"), "ffn_up")
    rows = [(name, block_format, shape, data) for name, (block_format, shape, data) in named.items()]
    write_gguf(path, {**gguf_metadata(config), **tokenizer_metadata(config.vocab_size)}, rows)


def _fuse(named: dict[str, Any], prefix: str, parts: tuple[str, ...], fused: str) -> None:
    pieces = [named.pop(f"{prefix}{part}.weight") for part in parts]
    shape = (sum(piece[1][0] for piece in pieces), pieces[0][1][1])
    data = np.concatenate([piece[2].reshape(-1) for piece in pieces])
    named[f"{prefix}{fused}.weight"] = (pieces[0][0], shape, data)


def _rope_freqs(config: ModelConfig) -> tuple[BlockFormat, tuple[int, ...], Bytes]:
    """Llama 3's scaling as GGUF has it: what each frequency is divided by."""
    from dataclasses import replace

    from apportion.models.config import RopeScaling
    from apportion.models.rope import inverse_frequencies

    plain = inverse_frequencies(replace(config.rope, scaling=RopeScaling()))
    divisors = (plain / inverse_frequencies(config.rope)).astype(np.float32)
    return format_by_name("f32"), divisors.shape, divisors.view(np.uint8)


def gguf_metadata(config: ModelConfig) -> dict[str, Any]:
    """The configuration in GGUF's keys."""
    arch = FAMILIES.get(config.family).gguf[0]
    scaling = config.rope.scaling
    values: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "context_length": config.context_length,
        "embedding_length": config.hidden_size,
        "block_count": config.num_layers,
        "feed_forward_length": config.feed_forward_size,
        "attention.head_count": config.num_heads,
        "attention.head_count_kv": config.num_kv_heads,
        "attention.layer_norm_rms_epsilon": config.norm_eps,
        "rope.freq_base": config.rope.base,
        "rope.dimension_count": config.rope.dims,
    }
    if any(config.windows):
        values["attention.sliding_window"] = max(config.windows)
        values["attention.sliding_window_pattern"] = [w > 0 for w in config.windows]
    if config.attention_softcap:
        values["attn_logit_softcapping"] = config.attention_softcap
    if config.logit_softcap:
        values["final_logit_softcapping"] = config.logit_softcap
    if config.qkv_clip:
        values["attention.clamp_kqv"] = config.qkv_clip
    if scaling.kind in ("linear", "yarn"):
        values |= {"rope.scaling.type": scaling.kind, "rope.scaling.factor": scaling.factor}
    if scaling.kind in ("yarn", "longrope"):
        values["rope.scaling.original_context_length"] = scaling.original_context
    if scaling.kind == "longrope":
        values["rope.scaling.attn_factor"] = scaling.attention_factor
    if config.local_rope is not None:
        values["rope.freq_base_swa"] = config.local_rope.base
    if config.latent is None:
        values |= {"attention.key_length": config.head_dim, "attention.value_length": config.value_dim}
        values["attention.scale"] = config.attention_scale
    values |= _latent_metadata(config) | _expert_metadata(config)
    if config.family == "granitemoe":
        values["embedding_scale"] = config.embedding_scale
        values["residual_scale"] = config.residual_scale
        values["logit_scale"] = 1 / config.logit_scale
    return {"general.architecture": arch, "general.name": f"tiny {config.family}"} | {
        f"{arch}.{key}": value for key, value in values.items()
    }


def _latent_metadata(config: ModelConfig) -> dict[str, Any]:
    latent = config.latent
    if latent is None:
        return {}
    values: dict[str, Any] = {
        "attention.kv_lora_rank": latent.kv_rank,
        "attention.key_length": latent.kv_rank + latent.rope_dim,
        "attention.value_length": latent.kv_rank,
        "attention.key_length_mla": config.head_dim,
        "attention.value_length_mla": latent.value_dim,
    }
    if latent.q_rank:
        values["attention.q_lora_rank"] = latent.q_rank
    if config.rope.scaling.kind == "yarn":
        growth = (config.attention_scale / config.head_dim**-0.5) ** 0.5  # 1 + multiplier * ln(factor)
        values["rope.scaling.yarn_log_multiplier"] = (growth - 1) / np.log(config.rope.scaling.factor).item()
    return values


def _expert_metadata(config: ModelConfig) -> dict[str, Any]:
    experts = config.experts
    if experts is None:
        return {}
    routing = experts.routing
    return {
        "expert_count": experts.num_experts,
        "expert_used_count": routing.top_k,
        "expert_feed_forward_length": experts.feed_forward_size,
        "expert_shared_feed_forward_length": experts.shared_size,
        "expert_weights_norm": routing.normalize,
        "expert_weights_scale": routing.scale,
        "expert_gating_func": {"softmax": 1, "sigmoid": 2, "softmax_topk": 3}[routing.score],
        "expert_group_count": routing.num_groups,
        "expert_group_used_count": routing.top_groups,
        "leading_dense_block_count": experts.layers.index(True),
    }


def tokenizer_metadata(vocab_size: int = VOCAB) -> dict[str, Any]:
    """A byte-level tokenizer: 256 bytes, two control tokens, and merges of common letters."""
    letters = "etaoinshrd"
    pairs = [(a, b) for a in letters for b in letters][: vocab_size - 258]
    tokens = [*_byte_symbols(), "<|begin|>", "<|end|>", *(a + b for a, b in pairs)]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if 256 <= i < 258 else 1 for i in range(len(tokens))],
        "tokenizer.ggml.merges": [f"{a} {b}" for a, b in pairs],
        "tokenizer.ggml.bos_token_id": 256,
        "tokenizer.ggml.eos_token_id": 257,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


def _byte_symbols() -> list[str]:
    """GPT-2's visible stand-ins for the 256 bytes."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = iter(range(256, 512))
    return [chr(byte) if byte in visible else chr(next(hidden)) for byte in range(256)]


def tiny_model(name: str, folder: Path, ops: Ops | None = None, **options: Any) -> Model:
    """The entry's model, loaded from a GGUF file of random weights."""
    checkpoint = open_gguf(tiny_gguf(name, folder, **options))
    try:
        return load_model(checkpoint, ops or ReferenceOps())
    finally:
        checkpoint.close()
