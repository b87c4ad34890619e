"""Llama and what shares its shape: Llama 1 to 3, SmolLM2, Mistral (with its sliding window)."""

from apportion.models.config import Structure
from apportion.models.family import Family
from apportion.models.templates import FEED_FORWARD, INTERLEAVED_ATTENTION, NORMS, TOP

FAMILY = Family(
    gguf=("llama",),
    model_types=("llama", "mistral"),
    structure=Structure(rope_style="interleaved"),
    tensors={**NORMS, **INTERLEAVED_ATTENTION, **FEED_FORWARD},
    top=TOP,
)
