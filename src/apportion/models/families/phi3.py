"""Phi-3, Phi-3.5 and Phi-4 mini: Llama's shape, stored with fused projections; LongRoPE and a window.

The window applies in every layer, as the models were trained and as transformers runs them.
"""

from apportion.models.config import ModelConfig, Structure
from apportion.models.family import Family
from apportion.models.templates import NORMS, TOP, fused, stored


def qkv(config: ModelConfig) -> tuple[int, ...]:
    """Rows of the fused projection of queries, keys and values."""
    return config.q_width, config.k_width, config.v_width


def gate_up(config: ModelConfig) -> tuple[int, ...]:
    """Rows of the fused projection of gate and up."""
    return config.feed_forward_size, config.feed_forward_size


FAMILY = Family(
    gguf=("phi3",),
    model_types=("phi3",),
    structure=Structure(),
    tensors={
        **NORMS,
        "attn_q.weight": fused("self_attn.qkv_proj.weight", 0, qkv),
        "attn_k.weight": fused("self_attn.qkv_proj.weight", 1, qkv),
        "attn_v.weight": fused("self_attn.qkv_proj.weight", 2, qkv),
        "attn_output.weight": stored("self_attn.o_proj.weight"),
        "ffn_gate.weight": fused("mlp.gate_up_proj.weight", 0, gate_up),
        "ffn_up.weight": fused("mlp.gate_up_proj.weight", 1, gate_up),
        "ffn_down.weight": stored("mlp.down_proj.weight"),
    },
    top=TOP,
)
