"""gpt-oss: attention sinks, a window in every other layer, biased experts in MXFP4, YaRN."""

from dataclasses import replace
from typing import Any

from apportion.core.errors import Unsupported
from apportion.kernels.ops import Routing
from apportion.models.config import RopeScaling, Structure
from apportion.models.family import Family, Template
from apportion.models.fields import Fields
from apportion.models.recipes import Columns
from apportion.models.repack import Mxfp4
from apportion.models.rope import yarn_magnitude
from apportion.models.templates import ATTENTION, NORMS, TOP, stored

SWIGLU = {"swiglu_alpha": 1.702, "swiglu_limit": 7.0}


def experts(name: str, start: int, step: int) -> tuple[Template, ...]:
    """A stack in MXFP4, or in plain numbers with inputs as rows; gate and up lie in turn."""
    return (
        lambda _, prefix: Mxfp4(
            f"{prefix}mlp.experts.{name}_blocks", f"{prefix}mlp.experts.{name}_scales", start, step
        ),
        lambda _, prefix: Columns(f"{prefix}mlp.experts.{name}", start, step),
    )


def expert_biases(name: str, start: int, step: int) -> tuple[Template, ...]:
    """A stack of biases; gate and up lie in turn."""
    return (lambda _, prefix: Columns(f"{prefix}mlp.experts.{name}_bias", start, step),)


def from_gguf(fields: Fields, values: dict[str, Any]) -> None:
    """The model was trained with YaRN's borders between whole dimensions, which GGUF cannot say."""
    rope = values["rope"]
    if rope.scaling.kind == "yarn":
        values["rope"] = replace(rope, scaling=replace(rope.scaling, truncate=False))


def from_hf(fields: Fields, values: dict[str, Any]) -> None:
    """Refuse a gate of other constants than the published ones; YaRN unless the file says otherwise."""
    for key, wanted in SWIGLU.items():
        if fields.number(key, default=wanted) != wanted:
            raise Unsupported(f"{key!r} must be {wanted}", "the gate is computed with that constant", key=key)
    if not fields.has("rope_parameters", "rope_scaling"):
        values["rope"] = replace(
            values["rope"],
            scaling=RopeScaling("yarn", 32.0, 4096, truncate=False, attention_factor=yarn_magnitude(32.0)),
        )


FAMILY = Family(
    gguf=("gpt-oss",),
    model_types=("gpt_oss",),
    structure=Structure(activation="swiglu_oai", qkv_bias=True, sinks=True, expert_bias=True),
    tensors={
        **NORMS,
        **ATTENTION,
        "attn_sinks.weight": stored("self_attn.sinks"),
        "ffn_gate_inp.weight": stored("mlp.router.weight"),
        "ffn_gate_inp.bias": stored("mlp.router.bias"),
        "ffn_gate_exps.weight": experts("gate_up_proj", 0, 2),
        "ffn_up_exps.weight": experts("gate_up_proj", 1, 2),
        "ffn_down_exps.weight": experts("down_proj", 0, 1),
        "ffn_gate_exps.bias": expert_biases("gate_up_proj", 0, 2),
        "ffn_up_exps.bias": expert_biases("gate_up_proj", 1, 2),
        "ffn_down_exps.bias": stored("mlp.experts.down_proj_bias"),
    },
    top=TOP,
    gguf_names={"ffn_norm.weight": "post_attention_norm.weight"},
    defaults={"head_dim": 64, "rope_theta": 150000.0, "sliding_window": 128, "attention_bias": True},
    routing=Routing(top_k=4, score="softmax_topk"),
    full_every=2,
    stored_quantization="mxfp4",
    from_gguf=from_gguf,
    from_hf=from_hf,
)
