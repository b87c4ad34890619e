"""Qwen 3: Llama's shape, with a norm on every query and key head."""

from apportion.models.config import Structure
from apportion.models.family import Family
from apportion.models.templates import ATTENTION, FEED_FORWARD, NORMS, QK_NORMS, TOP

FAMILY = Family(
    gguf=("qwen3",),
    model_types=("qwen3",),
    structure=Structure(qk_norm="head"),
    tensors={**NORMS, **ATTENTION, **QK_NORMS, **FEED_FORWARD},
    top=TOP,
)
