"""Which stored tensors make each canonical one, decided from headers alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from apportion.core.errors import BadFile, Unsupported
from apportion.formats.checkpoint import TensorInfo
from apportion.models.config import ModelConfig
from apportion.models.family import FAMILIES, Family
from apportion.models.layout import Slot, canonical_slots
from apportion.models.recipes import (
    NO_SHAPE,
    Constant,
    Each,
    HeadTransposed,
    Recipe,
    Run,
    Stack,
    Whole,
    value_heads,
)

Tensors = Mapping[str, TensorInfo]

# Stored names that carry nothing the forward pass needs: tables that are computed anew, and other modalities.
HARMLESS = re.compile(r"rotary_emb\.inv_freq$|attn_rot_embd|masked_bias$|attn\.bias$")
PREFIXES = ("model.", "language_model.model.", "model.language_model.", "")
# Formats of whole numbers and bytes: weights in them are codes, whose meaning lies elsewhere.
NO_WEIGHTS = ("bool", "u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64")
QKV = {"attn_q": 0, "attn_k": 1, "attn_v": 2}
GATE_UP = {"ffn_gate": 0, "ffn_up": 1}
HEADS = ("lm_head.weight", "language_model.lm_head.weight")


@dataclass(frozen=True, slots=True)
class Resolution:
    """How a checkpoint yields a model.

    Attributes:
        recipes: per canonical tensor that it has, in layer order.
        notes: stored tensors that nothing uses, except those known to be harmless.
    """

    recipes: Mapping[Slot, Recipe]
    notes: tuple[str, ...]


def resolve(config: ModelConfig, tensors: Tensors) -> Resolution:
    """
    Raises:
        BadFile: a tensor is missing, or its shape is not what the configuration says; names both shapes.
    """
    family = FAMILIES.get(config.family)
    chosen: dict[Slot, Recipe] = {}
    for slot in canonical_slots(config):
        candidates = candidates_for(config, family, tensors, slot.name)
        recipe = _choose(slot, candidates, tensors)
        if recipe is not None:
            chosen[slot] = recipe
    used = {name for recipe in chosen.values() for name in recipe.sources}
    _refuse_scaled(tensors, used)
    return Resolution(chosen, _notes(config, tensors, used))


def candidates_for(config: ModelConfig, family: Family, tensors: Tensors, name: str) -> list[Recipe]:
    """Every way to make the canonical tensor `name` from a checkpoint with these tensors, best first."""
    if name.startswith("rope_factors_") and config.rope.scaling.long_factors:
        scaling = config.rope.scaling
        return [Constant(scaling.short_factors if "short" in name else scaling.long_factors)]
    if "token_embd.weight" in tensors:
        return _gguf_candidates(config, family, name)
    prefix = next((p for p in PREFIXES if f"{p}embed_tokens.weight" in tensors), PREFIXES[0])
    if name == "output.weight":
        return [Whole(head) for head in HEADS]
    layer, rest = _split(name)
    if layer is None:
        return [template(config, prefix) for template in family.top.get(name, ())]
    return [template(config, f"{prefix}layers.{layer}.") for template in family.tensors.get(rest, ())]


def _split(name: str) -> tuple[int | None, str]:
    """`blk.3.attn_q.weight` -> 3 and `attn_q.weight`."""
    found = re.fullmatch(r"blk\.(\d+)\.(.+)", name)
    return (int(found[1]), found[2]) if found else (None, name)


def _choose(slot: Slot, candidates: list[Recipe], tensors: Tensors) -> Recipe | None:
    """The first candidate whose sources are all there and whose shape fits."""
    present = [recipe for recipe in candidates if _is_there(slot, recipe, tensors)]
    shapes = [_shape(recipe, tensors) for recipe in present]
    for recipe, shape in zip(present, shapes, strict=True):
        if _squeezed(shape) == _squeezed(slot.shape):
            return recipe
    if present:
        stored = present[0].sources
        raise BadFile(
            f"the tensor {stored[0]!r} has the wrong shape",
            f"the configuration asks for {list(slot.shape)} as {slot.name}",
            "obtain the model anew",
            tensor=stored[0],
            found=list(tensors[stored[0]].shape),
            expected=list(slot.shape),
        )
    if slot.required:
        names = [recipe.sources[0] for recipe in candidates if recipe.sources]
        raise BadFile(
            f"the tensor {slot.name!r} is missing",
            "it would be stored as " + " or ".join(repr(name) for name in names) if names else "",
            "obtain the model anew",
            tensor=slot.name,
            expected=list(slot.shape),
        )
    return None


def _is_there(slot: Slot, recipe: Recipe, tensors: Tensors) -> bool:
    """Whether a recipe can be followed. Of rows that lie in panels only whole matrices can be taken."""
    found = [tensors[name] for name in recipe.sources if name in tensors]
    whole = slot.kind == "matrix" and isinstance(recipe, Whole)
    return len(found) == len(recipe.sources) and (whole or not any(info.interleaved for info in found))


def _refuse_scaled(tensors: Tensors, used: set[str]) -> None:
    """A tensor whose numbers mean nothing without another one must not be run without it."""
    for name in used:
        stored = tensors[name]
        scale = next((n for n in _scales_of(name) if n in tensors), None)
        if scale is not None or (
            stored.format.name in NO_WEIGHTS and not name.endswith(("_blocks", "_scales"))
        ):
            raise Unsupported(
                f"the tensor {name!r} is quantized in a way that is not read",
                f"its numbers need {scale!r}" if scale else f"{stored.format.name} holds no weights",
                "use a GGUF file of this model, or its unquantized folder",
                tensor=name,
            )


def _scales_of(name: str) -> tuple[str, ...]:
    base = name.removesuffix(".weight")
    return (f"{base}.scale", f"{base}.weight_scale", f"{base}.weight_scale_inv")


def _shape(recipe: Recipe, tensors: Tensors) -> tuple[int, ...]:
    """What the recipe yields; NO_SHAPE when a stored tensor has another number of dimensions."""
    try:
        return recipe.shape(tensors)
    except (ValueError, IndexError):
        return NO_SHAPE


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """GGUF drops leading dimensions of one."""
    first = next((i for i, dim in enumerate(shape) if dim != 1), len(shape) - 1)
    return shape[first:]


def _gguf_candidates(config: ModelConfig, family: Family, name: str) -> list[Recipe]:
    layer, rest = _split(name)
    if layer is None:
        return [Whole(name)]
    stored = family.gguf_names.get(rest)
    candidates: list[Recipe] = [Whole(f"blk.{layer}.{stored}")] if stored else []
    return [*candidates, Whole(name), *_gguf_variants(config, f"blk.{layer}.", rest)]


def _gguf_variants(config: ModelConfig, prefix: str, rest: str) -> list[Recipe]:
    """Other forms in which GGUF files hold a tensor: fused, per expert, joint key-value projections."""
    part, _, suffix = rest.partition(".")
    if part in QKV:
        return [
            _run(f"{prefix}attn_qkv.{suffix}", (config.q_width, config.k_width, config.v_width), QKV[part])
        ]
    if part in GATE_UP:
        return [_run(f"{prefix}ffn_up.weight", (config.feed_forward_size,) * 2, GATE_UP[part])]
    if part.endswith("_exps") and suffix == "weight":
        return _expert_variants(config, prefix, part.removesuffix("_exps"))
    if config.latent is not None and part in ("attn_k_b", "attn_v_b"):
        make = HeadTransposed if part == "attn_k_b" else value_heads
        return [
            make(
                f"{prefix}attn_kv_b.weight", config.num_heads, config.latent.nope_dim, config.latent.value_dim
            )
        ]
    return []


def _run(name: str, sizes: tuple[int, ...], part: int) -> Run:
    start = sum(sizes[:part])
    return Run(name, start, start + sizes[part], sum(sizes))


def _expert_variants(config: ModelConfig, prefix: str, part: str) -> list[Recipe]:
    assert config.experts is not None
    size, count = config.experts.feed_forward_size, config.experts.num_experts
    variants: list[Recipe] = [Stack(tuple(Whole(f"{prefix}{part}.{e}.weight") for e in range(count)))]
    if part in GATE_UP:
        start = GATE_UP[part] * size
        variants.append(Each(f"{prefix}ffn_gate_up_exps.weight", start, start + size, 2 * size))
    return variants


def _notes(config: ModelConfig, tensors: Tensors, used: set[str]) -> tuple[str, ...]:
    """One line per kind of stored tensor that nothing uses."""
    unused = [name for name in tensors if name not in used and not HARMLESS.search(name)]
    if config.tied_head:
        unused = [name for name in unused if name not in HEADS]
    kinds: dict[str, list[str]] = {}
    for name in unused:
        kinds.setdefault(re.sub(r"\d+", "*", name), []).append(name)
    return tuple(
        f"not used: {names[0]}" if len(names) == 1 else f"not used: {kind} ({len(names)} tensors)"
        for kind, names in kinds.items()
    )
