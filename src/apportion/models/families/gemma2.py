"""Gemma 2: sliding window in every other layer, soft caps on scores and logits, norms around both halves."""

from typing import Any

from apportion.models.config import Structure
from apportion.models.family import Family
from apportion.models.fields import Fields
from apportion.models.read_gguf import windows_by_period
from apportion.models.templates import ATTENTION, FEED_FORWARD, GEMMA_NORMS, GEMMA_TOP

# Of all published models; early GGUF files leave them out.
WINDOW, ATTENTION_SOFTCAP, LOGIT_SOFTCAP = 4096, 50.0, 30.0
LAYERS_OF_27B = 46


def from_gguf(fields: Fields, values: dict[str, Any]) -> None:
    """GGUF has no key for the score's scale: the 27B model alone does not take the head's size."""
    if values["num_layers"] == LAYERS_OF_27B and not fields.has("attention.scale"):
        values["attention_scale"] = (values["hidden_size"] / values["num_heads"]) ** -0.5
    if not fields.has("attention.sliding_window"):
        values["windows"] = windows_by_period(WINDOW, 2, values["num_layers"])
    values["attention_softcap"] = fields.number("attn_logit_softcapping", default=ATTENTION_SOFTCAP)
    values["logit_softcap"] = fields.number("final_logit_softcapping", default=LOGIT_SOFTCAP)


FAMILY = Family(
    gguf=("gemma2",),
    model_types=("gemma2",),
    structure=Structure(activation="gelu_tanh", post_norms=True),
    tensors={**GEMMA_NORMS, **ATTENTION, **FEED_FORWARD},
    top=GEMMA_TOP,
    defaults={
        "tie_word_embeddings": True,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "sliding_window": WINDOW,
        "attn_logit_softcapping": ATTENTION_SOFTCAP,
        "final_logit_softcapping": LOGIT_SOFTCAP,
    },
    full_every=2,
    scales_embedding=True,
    from_gguf=from_gguf,
)
