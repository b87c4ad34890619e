"""What a model family is: data that the readers of configurations and the loader consult.

A family is one file in `families/`, which binds the name FAMILY; other packages add theirs through the
entry-point group `apportion.families`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from apportion.core.errors import BadFile, Unsupported
from apportion.core.registry import Registry
from apportion.formats.checkpoint import Checkpoint
from apportion.kernels.ops import Routing
from apportion.models.config import ModelConfig, Structure
from apportion.models.fields import Fields
from apportion.models.recipes import Recipe

# From a configuration and the stored names' prefix (`model.layers.3.`), one way to make a canonical tensor.
Template: TypeAlias = Callable[[ModelConfig, str], Recipe]
Templates: TypeAlias = Mapping[str, tuple[Template, ...]]
# Changes values that the common reader took from a checkpoint's metadata.
Adjust: TypeAlias = Callable[[Fields, dict[str, Any]], None]


def _unchanged(fields: Fields, values: dict[str, Any]) -> None:
    return


@dataclass(frozen=True, slots=True)
class Family:
    """A model family.

    Attributes:
        gguf: its names in `general.architecture`.
        model_types: its names in `config.json`'s `model_type`.
        structure: what all of its models have in common.
        tensors: canonical names within a layer, and ways to make each from a folder of safetensors.
        top: the same for tensors outside of layers.
        gguf_names: canonical names within a layer that GGUF files of this family call otherwise.
        defaults: values of `config.json` that may be left out there.
        routing: how its experts are chosen, where metadata is silent; None for a family without experts.
        full_every: with a sliding window, every n-th layer sees everything; 0: none does.
        local_rope_base: rope base of layers with a window; 0: as in the others.
        scales_embedding: the embedding is multiplied by the root of the hidden size.
        stored_quantization: the `quant_method` of `config.json` that its templates can read.
        from_gguf, from_hf: what its metadata says in a way of its own.
    """

    gguf: tuple[str, ...]
    model_types: tuple[str, ...]
    structure: Structure
    tensors: Templates
    top: Templates
    gguf_names: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    routing: Routing | None = None
    full_every: int = 0
    local_rope_base: float = 0.0
    scales_embedding: bool = False
    stored_quantization: str = ""
    from_gguf: Adjust = _unchanged
    from_hf: Adjust = _unchanged


FAMILIES: Registry[Family] = Registry(
    "model family", "apportion.models.families", "FAMILY", Family, group="apportion.families"
)


def family_of(checkpoint: Checkpoint) -> str:
    """The name of the family that a checkpoint belongs to.

    Raises:
        BadFile: the checkpoint does not say.
        Unsupported: no family knows it.
    """
    if checkpoint.kind == "gguf":
        architecture = checkpoint.metadata.get("general.architecture")
        key = "general.architecture"
        has_experts = (
            Fields(checkpoint.metadata, f"{architecture}.").count("expert_count", default=0, least=0) > 0
        )
        names = [
            name
            for name in FAMILIES
            if architecture in FAMILIES.get(name).gguf
            and (FAMILIES.get(name).routing is not None) == has_experts
        ]
    else:
        architecture, key = text_config(checkpoint.metadata).get("model_type"), "model_type"
        names = [name for name in FAMILIES if architecture in FAMILIES.get(name).model_types]
    if not isinstance(architecture, str):
        raise BadFile(
            f"the checkpoint does not say what it is: {key!r} is missing", hint="obtain the model anew"
        )
    if not names:
        raise Unsupported(
            f"the model family {architecture!r} is not known",
            hint=f"known ones are {', '.join(known_architectures(checkpoint.kind))}",
            key=key,
        )
    return names[0]


def known_architectures(kind: str) -> list[str]:
    """The names that checkpoints of this kind may give as their architecture."""
    families = [FAMILIES.get(name) for name in FAMILIES]
    names = {name for family in families for name in (family.gguf if kind == "gguf" else family.model_types)}
    return sorted(names)


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The language model's part of a `config.json`: models that also see images keep it under
    `text_config`.
    """
    inner = config.get("text_config")
    return inner if isinstance(inner, Mapping) else config
