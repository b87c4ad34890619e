"""DeepSeek-V2 (and Lite) and V3/R1: latent attention, shared experts, leading dense layers, grouped
routing.
"""

from dataclasses import replace
from typing import Any

from apportion.kernels.ops import Routing
from apportion.models.config import Structure
from apportion.models.family import Family
from apportion.models.fields import Fields
from apportion.models.rope import yarn_score_scale
from apportion.models.templates import EXPERTS, FEED_FORWARD, NORMS, TOP, joint_keys, joint_values, stored


def from_gguf(fields: Fields, values: dict[str, Any]) -> None:
    """The file's multiplier is a tenth of YaRN's `mscale_all_dim`."""
    weight = 10 * fields.number("rope.scaling.yarn_log_multiplier", default=0.0)
    values["attention_scale"] *= yarn_score_scale(values["rope"].scaling, weight)


def from_hf(fields: Fields, values: dict[str, Any]) -> None:
    """V3 scores experts by sigmoids and judges a group by two; V2 groups only where it says so."""
    experts = values["experts"]
    routing: Routing = experts.routing
    if fields.text("model_type") == "deepseek_v3":
        normalize = fields.flag("norm_topk_prob", default=True)
        routing = replace(routing, score="sigmoid", group_score="top2", normalize=normalize)
    elif fields.text("topk_method", default="greedy") == "greedy":
        routing = replace(routing, num_groups=1, top_groups=1)
    values["experts"] = replace(experts, routing=routing)


FAMILY = Family(
    gguf=("deepseek2",),
    model_types=("deepseek_v2", "deepseek_v3"),
    structure=Structure(rope_style="interleaved"),
    tensors={
        **NORMS,
        **FEED_FORWARD,
        **EXPERTS,
        "attn_q.weight": stored("self_attn.q_proj.weight"),
        "attn_q_a.weight": stored("self_attn.q_a_proj.weight"),
        "attn_q_a_norm.weight": stored("self_attn.q_a_layernorm.weight"),
        "attn_q_b.weight": stored("self_attn.q_b_proj.weight"),
        "attn_kv_a_mqa.weight": stored("self_attn.kv_a_proj_with_mqa.weight"),
        "attn_kv_a_norm.weight": stored("self_attn.kv_a_layernorm.weight"),
        "attn_k_b.weight": joint_keys("self_attn.kv_b_proj.weight"),
        "attn_v_b.weight": joint_values("self_attn.kv_b_proj.weight"),
        "attn_output.weight": stored("self_attn.o_proj.weight"),
        "exp_probs_b.bias": stored("mlp.gate.e_score_correction_bias"),
        "ffn_gate_shexp.weight": stored("mlp.shared_experts.gate_proj.weight"),
        "ffn_up_shexp.weight": stored("mlp.shared_experts.up_proj.weight"),
        "ffn_down_shexp.weight": stored("mlp.shared_experts.down_proj.weight"),
    },
    top=TOP,
    routing=Routing(top_k=6),
    from_gguf=from_gguf,
    from_hf=from_hf,
)
