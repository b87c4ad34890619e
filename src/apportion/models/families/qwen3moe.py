"""Qwen 3 with experts, all of equal rank."""

from typing import Any

from apportion.kernels.ops import Routing
from apportion.models.config import Structure
from apportion.models.family import Family
from apportion.models.fields import Fields
from apportion.models.templates import ATTENTION, EXPERTS, FEED_FORWARD, NORMS, QK_NORMS, TOP


def from_hf(fields: Fields, values: dict[str, Any]) -> None:
    """Unlike its dense siblings, it has the window in every layer or in none."""
    if not fields.flag("use_sliding_window", default=False):
        values["windows"] = (0,) * values["num_layers"]


FAMILY = Family(
    gguf=("qwen3moe",),
    model_types=("qwen3_moe",),
    structure=Structure(qk_norm="head"),
    tensors={**NORMS, **ATTENTION, **QK_NORMS, **FEED_FORWARD, **EXPERTS},
    top=TOP,
    routing=Routing(top_k=8, normalize=True),
    from_hf=from_hf,
)
