"""Granite with experts: scales on embedding, attention, residual stream and logits."""

from typing import Any

from apportion.core.errors import BadFile
from apportion.kernels.ops import Routing
from apportion.models.config import Structure
from apportion.models.family import Family
from apportion.models.fields import Fields
from apportion.models.templates import INTERLEAVED_ATTENTION, NORMS, TOP, gate_half, stored, up_half


def _inverse(divisor: float, key: str) -> float:
    if divisor == 0:
        raise BadFile(f"{key!r} must not be zero", "logits are divided by it", key=key)
    return 1.0 / divisor


def from_gguf(fields: Fields, values: dict[str, Any]) -> None:
    """GGUF's `logit_scale` is what logits are divided by."""
    values["embedding_scale"] = fields.number("embedding_scale", default=1.0)
    values["residual_scale"] = fields.number("residual_scale", default=1.0)
    values["logit_scale"] = _inverse(fields.number("logit_scale", default=1.0), "logit_scale")


def from_hf(fields: Fields, values: dict[str, Any]) -> None:
    """The four scales, under the names that `config.json` has for them."""
    values["embedding_scale"] = fields.number("embedding_multiplier", default=1.0)
    values["residual_scale"] = fields.number("residual_multiplier", default=1.0)
    values["attention_scale"] = fields.number("attention_multiplier", default=1.0)
    values["logit_scale"] = _inverse(fields.number("logits_scaling", default=1.0), "logits_scaling")


MOE = "block_sparse_moe."

FAMILY = Family(
    gguf=("granitemoe",),
    model_types=("granitemoe",),
    structure=Structure(rope_style="interleaved"),
    tensors={
        **NORMS,
        **INTERLEAVED_ATTENTION,
        "ffn_gate_inp.weight": stored(MOE + "router.layer.weight") + stored(MOE + "router.weight"),
        "ffn_gate_exps.weight": gate_half(MOE + "input_linear.weight")
        + gate_half(MOE + "experts.gate_up_proj"),
        "ffn_up_exps.weight": up_half(MOE + "input_linear.weight") + up_half(MOE + "experts.gate_up_proj"),
        "ffn_down_exps.weight": stored(MOE + "output_linear.weight") + stored(MOE + "experts.down_proj"),
    },
    top=TOP,
    routing=Routing(top_k=8, score="softmax", normalize=True),
    from_gguf=from_gguf,
    from_hf=from_hf,
)
