"""Qwen 2 and 2.5: Llama's shape, with biases on queries, keys and values."""

from apportion.models.config import Structure
from apportion.models.family import Family
from apportion.models.templates import ATTENTION, FEED_FORWARD, NORMS, TOP

FAMILY = Family(
    gguf=("qwen2",),
    model_types=("qwen2",),
    structure=Structure(qkv_bias=True),
    tensors={**NORMS, **ATTENTION, **FEED_FORWARD},
    top=TOP,
)
