"""Small valid files, from which the mutation tests and the fuzz targets start."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from apportion.core.disk import write_all
from apportion.core.virtual_disk import VirtualDisk
from apportion.formats.blocks import format_by_name
from apportion.formats.gguf import NewTensor, TypedList, ValueType, write_gguf
from apportion.formats.routes import RoutesShape, RoutesWriter

FOLDER = Path("/model")
EXPERT_PARTS = ("gate", "up", "down")


def disk_with(name: str, data: bytes) -> tuple[VirtualDisk, Path]:
    """A disk in memory with one file on it, and the file's path."""
    disk, path = VirtualDisk(), FOLDER / name
    with disk.open(path, "create") as file:
        write_all(file, data, 0)
    return disk, path


def gguf_seeds() -> dict[str, bytes]:
    rng = np.random.default_rng(1)
    return {
        "empty": gguf_bytes({}, []),
        "weights": gguf_bytes({"general.architecture": "llama", "llama.block_count": 1}, tensors(rng)),
        "vocabulary": gguf_bytes(
            {
                "tokenizer.ggml.tokens": ["<s>", "▁the", "é", ""],
                "tokenizer.ggml.scores": np.arange(4, dtype=np.float32),
                "tokenizer.ggml.token_type": np.ones(4, np.int32),
                "general.nested": TypedList(
                    ValueType.ARRAY, [["a"], TypedList(ValueType.STRING), np.ones(2, np.bool_)]
                ),
                "general.flag": True,
                "general.far": np.float64(1e300),
                "general.long": 1 << 40,
                "general.alignment": 64,
            },
            tensors(rng)[:1],
        ),
    }


def packed_seeds() -> dict[str, bytes]:
    """A packed file of one layer with two experts, and one of a folder."""
    part = {"offset": 0, "format": "q4_0", "shape": [16, 64], "interleaved": True}
    parts = {f"ffn_{name}_exps.weight": {**part, "offset": 576 * i} for i, name in enumerate(EXPERT_PARTS)}
    layout = {"interleaved": ["token_embd.weight"], "experts": {"0": parts}}
    metadata = {
        "general.architecture": "apportion",
        "general.alignment": 4096,
        "apportion.pack.version": 1,
        "apportion.pack.layout": json.dumps(layout),
    }
    entries = [
        _bytes_tensor("apportion.digests", (5, 32), b""),
        _bytes_tensor("apportion.file.config.json", (2,), b"{}"),
        NewTensor("token_embd.weight", format_by_name("f32"), (16, 8), np.zeros(512, np.uint8)),
        _bytes_tensor("blk.0.experts", (2, 4096), b""),
    ]
    gguf = {"apportion.pack.source": "gguf", "apportion.pack.architecture": "olmoe"}
    return {
        "packed gguf": gguf_bytes(metadata | gguf, entries),
        "packed folder": gguf_bytes(metadata | {"apportion.pack.source": "safetensors"}, entries),
    }


def _bytes_tensor(name: str, shape: tuple[int, ...], start: bytes) -> NewTensor:
    data = np.zeros(int(np.prod(shape)), np.uint8)
    data[: len(start)] = np.frombuffer(start, np.uint8)
    return NewTensor(name, format_by_name("i8"), shape, data)


def gguf_bytes(metadata: dict[str, object], entries: list[NewTensor]) -> bytes:
    disk, path = VirtualDisk(), FOLDER / "seed.gguf"
    write_gguf(path, metadata, entries, disk=disk)
    with disk.open(path) as file:
        return file.pread(file.size, 0)


def tensors(rng: np.random.Generator) -> list[NewTensor]:
    """One tensor each of a plain, a legacy and a k format."""
    shapes = {"f32": (3, 5), "q4_0": (2, 64), "q4_k": (1, 2, 256)}
    result = []
    for name, shape in shapes.items():
        block_format = format_by_name(name)
        values = rng.standard_normal(shape).astype(np.float32)
        rows = values.reshape(-1, shape[-1])
        data = (
            block_format.quantize(rows) if block_format.encode else np.zeros(_nbytes(name, shape), np.uint8)
        )
        result.append(NewTensor(f"blk.0.{name}.weight", block_format, shape, data))
    return result


def _nbytes(name: str, shape: tuple[int, ...]) -> int:
    return int(np.prod(shape[:-1])) * format_by_name(name).row_nbytes(shape[-1])


def safetensors_seeds() -> dict[str, bytes]:
    two = {
        "__metadata__": {"format": "pt"},
        "model.norm.weight": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
        "lm_head.weight": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [16, 28]},
    }
    odd = {
        "scalar": {"dtype": "F64", "shape": [], "data_offsets": [0, 8]},
        "none": {"dtype": "I32", "shape": [0, 7], "data_offsets": [8, 8]},
        "eight": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [8, 16]},
        "flags": {"dtype": "BOOL", "shape": [1], "data_offsets": [16, 17]},
    }
    return {
        "empty": safetensors_bytes({}, b""),
        "two": safetensors_bytes(two, bytes(range(28))),
        "odd": safetensors_bytes(odd, bytes(17)),
    }


def routes_seeds() -> dict[str, bytes]:
    shapes = {
        "empty": (RoutesShape("none", (0,), 4, 2), 0),
        "gates": (RoutesShape("gates", (1, 2), 8, 2, gates=True), 3),
        "inputs": (RoutesShape("inputs", (0,), 300, 3, hidden=4), 2),
    }
    return {name: routes_bytes(shape, tokens) for name, (shape, tokens) in shapes.items()}


def routes_bytes(shape: RoutesShape, num_tokens: int) -> bytes:
    disk, path = VirtualDisk(), FOLDER / "x.routes"
    choices = (num_tokens, len(shape.layers), shape.top_k)
    with RoutesWriter(path, shape, disk) as writer:
        writer.append(
            np.broadcast_to(np.arange(shape.top_k), choices),
            np.ones(choices) if shape.gates else None,
            np.ones((*choices[:2], shape.hidden)) if shape.hidden else None,
        )
    with disk.open(path) as file:
        return file.pread(file.size, 0)


def safetensors_bytes(header: object, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def config_seeds() -> list[bytes]:
    """Configurations of a few families, dense and with experts."""
    dense = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "hidden_act": "silu",
    }
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    experts = {
        "model_type": "qwen3_moe",
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "norm_topk_prob": True,
        "head_dim": 8,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }
    gemma = {
        "model_type": "gemma3_text",
        "hidden_activation": "gelu_pytorch_tanh",
        "head_dim": 8,
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"],
        "query_pre_attn_scalar": 8,
        "rope_local_base_freq": 10000.0,
    }
    extras: list[dict[str, object]] = [{}, {"rope_scaling": scaling}, experts, gemma]
    return [json.dumps(dense | extra).encode() for extra in extras]
