"""Rotary embedding from `config.json`: today's `rope_parameters`, and `rope_theta` with `rope_scaling`
before it.
"""

from __future__ import annotations

from apportion.core.errors import BadFile, Unsupported
from apportion.models.config import Rope, RopeScaling
from apportion.models.family import Family
from apportion.models.fields import Fields
from apportion.models.rope import longrope_magnitude, yarn_magnitude


def read_ropes(fields: Fields, family: Family, head_dim: int) -> tuple[Rope, Rope | None]:
    """The rope of layers that see everything, and that of layers with a window where they have their own.

    Raises:
        BadFile: a value is missing, of the wrong type or out of range.
        Unsupported: the kind of scaling is not known.
    """
    parameters = fields.section("rope_parameters", "rope_scaling")
    full = parameters.section("full_attention") if parameters.has("full_attention") else parameters
    base = full.number("rope_theta", default=fields.number("rope_theta", default=10000.0))
    share = full.number("partial_rotary_factor", default=fields.number("partial_rotary_factor", default=1.0))
    if not 0 < share <= 1:
        raise BadFile("'partial_rotary_factor' must lie above 0 and at most at 1", value=share)
    rope = Rope(base, int(head_dim * share), _scaling(fields, full))
    if not family.local_rope_base:
        return rope, None
    local = parameters.section("sliding_attention")
    local_base = local.number(
        "rope_theta", default=fields.number("rope_local_base_freq", default=family.local_rope_base)
    )
    return rope, Rope(local_base, rope.dims)


def _scaling(fields: Fields, parameters: Fields) -> RopeScaling:
    kind = parameters.text("rope_type", "type", default="default")
    # Models that state the trained length beside the rope mean that one.
    trained = fields.count("max_position_embeddings")
    original = fields.count(
        "original_max_position_embeddings",
        default=parameters.count("original_max_position_embeddings", default=trained),
    )
    if kind in ("default", "dynamic"):  # dynamic scaling sets in beyond the context that we allow
        return RopeScaling()
    if kind == "linear":
        return RopeScaling("linear", factor=parameters.number("factor"))
    if kind == "llama3":
        return RopeScaling(
            "llama3",
            factor=parameters.number("factor"),
            original_context=original,
            low_freq_factor=parameters.number("low_freq_factor"),
            high_freq_factor=parameters.number("high_freq_factor"),
        )
    if kind == "yarn":
        return _yarn(parameters, original, trained)
    if kind in ("longrope", "su"):
        return _longrope(parameters, original, trained)
    raise Unsupported(f"the rope scaling {kind!r} is not known", key="rope_type")


def _yarn(parameters: Fields, original: int, trained: int) -> RopeScaling:
    factor = parameters.number("factor", default=trained / original)
    weight = parameters.number("mscale", default=0.0)
    weight_all = parameters.number("mscale_all_dim", default=0.0)
    magnitude = yarn_magnitude(factor)
    if weight and weight_all:
        magnitude = yarn_magnitude(factor, weight) / yarn_magnitude(factor, weight_all)
    return RopeScaling(
        "yarn",
        factor=factor,
        original_context=original,
        beta_fast=parameters.number("beta_fast", default=32.0) or 32.0,
        beta_slow=parameters.number("beta_slow", default=1.0) or 1.0,
        truncate=parameters.flag("truncate", default=True),
        attention_factor=parameters.number("attention_factor", default=magnitude),
    )


def _longrope(parameters: Fields, original: int, trained: int) -> RopeScaling:
    factor = parameters.number("factor", default=trained / original)
    return RopeScaling(
        "longrope",
        original_context=original,
        attention_factor=parameters.number("attention_factor", default=longrope_magnitude(factor, original)),
        short_factors=_factors(parameters, "short_factor"),
        long_factors=_factors(parameters, "long_factor"),
    )


def _factors(parameters: Fields, name: str) -> tuple[float, ...]:
    factors = parameters.numbers(name)
    if not factors:
        raise BadFile(f"the model's configuration lacks {name!r}", "LongRoPE needs it", key=name)
    return factors
