"""Mixtral: Mistral with experts. GGUF files call it `llama` and state a number of experts."""

from apportion.kernels.ops import Routing
from apportion.models.config import Structure
from apportion.models.family import Family
from apportion.models.templates import (
    INTERLEAVED_ATTENTION,
    NORMS,
    TOP,
    gate_half,
    per_expert,
    stored,
    up_half,
)

FAMILY = Family(
    gguf=("llama",),
    model_types=("mixtral",),
    structure=Structure(rope_style="interleaved"),
    tensors={
        **NORMS,
        **INTERLEAVED_ATTENTION,
        "ffn_gate_inp.weight": stored("block_sparse_moe.gate.weight") + stored("mlp.gate.weight"),
        "ffn_gate_exps.weight": per_expert("block_sparse_moe.experts.{}.w1.weight")
        + gate_half("mlp.experts.gate_up_proj"),
        "ffn_up_exps.weight": per_expert("block_sparse_moe.experts.{}.w3.weight")
        + up_half("mlp.experts.gate_up_proj"),
        "ffn_down_exps.weight": per_expert("block_sparse_moe.experts.{}.w2.weight")
        + stored("mlp.experts.down_proj"),
    },
    top=TOP,
    routing=Routing(top_k=2, score="softmax", normalize=True),
)
