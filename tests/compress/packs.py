"""What tests of packing share: models to pack, and what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tests.models.test_loading import gpt_oss_arrays, save_folder, stored_arrays
from tests.models.tiny import random_values, tiny_hf_config, write_canonical
from tests.text.vocabularies import tokenizer_json, write_folder

from apportion.formats import open_checkpoint
from apportion.formats.block import BlockFormat
from apportion.formats.blocks import format_by_name
from apportion.kernels import NativeOps, Ops
from apportion.models import load_model
from apportion.models.family import FAMILIES
from apportion.models.layout import Slot, canonical_slots
from apportion.models.read_hf import read_hf

IDS = np.arange(24) * 7 % 300
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"
K_SIZES = {"hidden_size": 256, "intermediate_size": 256, "moe_intermediate_size": 256, "head_dim": 64}


def logits(path: Path, ops: Ops | None = None) -> Any:
    with open_checkpoint(path) as checkpoint:
        model = load_model(checkpoint, ops or NativeOps(1))
    return model.forward(IDS, model.new_cache(len(IDS), "f32"), logits="all")


def k_quant_mix(name: str, path: Path) -> Path:
    """A GGUF file with formats mixed as in Q4_K_M: some down projections, values and the head in q6_k."""
    config = read_hf(name, FAMILIES.get(name), {**tiny_hf_config(name), **K_SIZES})
    rng = np.random.default_rng(3)
    slots = [slot for slot in canonical_slots(config) if slot.required]
    tensors = []
    for slot in slots:
        chosen = k_format(slot)
        tensors.append((slot, chosen, chosen.quantize(random_values(slot, rng))))
    write_canonical(path, config, tensors)
    return path


def k_format(slot: Slot) -> BlockFormat:
    if slot.kind == "vector" or "ffn_gate_inp" in slot.name or slot.shape[-1] % 256:
        return format_by_name("f32")
    is_odd_layer = slot.name.startswith("blk.1.")
    better = "attn_v" in slot.name or slot.name == "output.weight" or ("down" in slot.name and is_odd_layer)
    return format_by_name("q6_k" if better else "q4_k")


def folder_of(name: str, folder: Path) -> Path:
    """A folder of safetensors with a tokenizer, a chat template and recommended sampling."""
    if name == "gpt_oss":
        save_folder(folder, name, gpt_oss_arrays(), quantization_config={"quant_method": "mxfp4"})
    else:
        save_folder(folder, name, stored_arrays(name))
    write_folder(
        folder,
        tokenizer=tokenizer_json(),
        tokenizer_config={"chat_template": TEMPLATE},
        generation_config={"temperature": 0.5, "top_k": 3},
    )
    return folder
