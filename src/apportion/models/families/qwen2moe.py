"""Qwen 1.5 and 2 with experts: biases on queries, keys and values, and a shared expert with a gate."""

from dataclasses import replace
from typing import Any

from apportion.kernels.ops import Routing
from apportion.models.config import Structure
from apportion.models.family import Family
from apportion.models.fields import Fields
from apportion.models.templates import ATTENTION, EXPERTS, FEED_FORWARD, NORMS, TOP, stored


def from_gguf(fields: Fields, values: dict[str, Any]) -> None:
    """Early files state only the sum of the sizes of a token's experts, which the shared one has alone."""
    experts, total = values["experts"], values["feed_forward_size"]
    if not fields.has("expert_feed_forward_length"):
        experts = replace(experts, feed_forward_size=total // experts.routing.top_k)
    if not experts.shared_size:
        experts = replace(experts, shared_size=total)
    values["experts"] = experts


FAMILY = Family(
    gguf=("qwen2moe",),
    model_types=("qwen2_moe",),
    structure=Structure(qkv_bias=True, shared_gate=True),
    tensors={
        **NORMS,
        **ATTENTION,
        **FEED_FORWARD,
        **EXPERTS,
        "ffn_gate_shexp.weight": stored("mlp.shared_expert.gate_proj.weight"),
        "ffn_up_shexp.weight": stored("mlp.shared_expert.up_proj.weight"),
        "ffn_down_shexp.weight": stored("mlp.shared_expert.down_proj.weight"),
        "ffn_gate_inp_shexp.weight": stored("mlp.shared_expert_gate.weight"),
    },
    top=TOP,
    routing=Routing(top_k=4),
    from_gguf=from_gguf,
)
