"""Gemma 3: five layers with a window and rope of their own for each that sees everything; q and k norms."""

from typing import Any

from apportion.models.config import Structure
from apportion.models.family import Family
from apportion.models.fields import Fields
from apportion.models.templates import ATTENTION, FEED_FORWARD, GEMMA_NORMS, GEMMA_QK_NORMS, GEMMA_TOP

LAYERS_OF_27B = 62


def from_gguf(fields: Fields, values: dict[str, Any]) -> None:
    """GGUF has no key for the score's scale: the 27B model alone does not take the head's size."""
    if values["num_layers"] == LAYERS_OF_27B and not fields.has("attention.scale"):
        values["attention_scale"] = (values["hidden_size"] / values["num_heads"]) ** -0.5


# The folders of models that also see images state only what differs from these.
DEFAULTS = {
    "vocab_size": 262208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "max_position_embeddings": 131072,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
}

FAMILY = Family(
    gguf=("gemma3",),
    model_types=("gemma3_text", "gemma3"),
    structure=Structure(activation="gelu_tanh", qk_norm="head", post_norms=True),
    tensors={**GEMMA_NORMS, **GEMMA_QK_NORMS, **ATTENTION, **FEED_FORWARD},
    top=GEMMA_TOP,
    defaults=DEFAULTS,
    full_every=6,
    local_rope_base=10000.0,
    scales_embedding=True,
    from_gguf=from_gguf,
)
