"""A plan to write, read and spoil, and shapes of models to plan for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import pytest
from tests.models.tiny import tiny_gguf

from apportion.core.claim import Kind
from apportion.core.units import GiB, MiB
from apportion.formats.blocks import format_by_name
from apportion.formats.gguf import open_gguf
from apportion.models import ModelConfig, config_from_checkpoint
from apportion.models.units import LayerUnits, Member, ModelUnits, Stretch, Unit, model_units
from apportion.plan import Estimate, Forecast, Plan, PolicyNames

SIZES = {
    Kind.RUNTIME: 70 * MiB,
    Kind.DENSE_WEIGHTS: 209 * MiB,
    Kind.EXPERT_SLOTS: 512 * MiB,
    Kind.KV: 64 * MiB,
    Kind.WORKSPACE: 40 * MiB,
    Kind.IO_BUFFERS: 8 * MiB,
    Kind.RESERVE: 16 * MiB,
}


@pytest.fixture
def plan() -> Plan:
    """A plan of four layers, the first without experts; its dense part streams."""
    return Plan(
        model='a "strange" \\ name\x7f\n',
        ram=1 * GiB,
        ctx=4096,
        kv="f16",
        threads=2,
        concurrency=1,
        tokens_per_pass=512,
        prefill="layer_major",
        embedding="rows",
        expert_slots=(0, 13, 13, 12),
        streamed_layers=(0,),
        stream_buffers=2,
        nbytes=SIZES,
        resident_fraction=0.25,
        hit_rate=0.2,
        hit_rate_source="uniform routing",
        disk_bytes_per_token=90_000_000,
        forecast=Forecast(
            decode_tok_s=Estimate(6.5, 5.0, 7.25),
            prefill_tok_s=Estimate(100.0, 80.0, 110.0),
            ttft_s=Estimate(2.5, 2.0, 3.0),
            load_s=Estimate(1.0, 1.0, 1e-05 + 1),
            prompt_tokens=256,
            basis="assumed rates",
        ),
        policies=PolicyNames(expert_cache="lfu"),
        advice=("+1 GiB: 6.5 -> 9.1 tok/s",),
    )


@dataclass(frozen=True)
class Shape:
    """A model's configuration and units, without the model."""

    config: ModelConfig
    units: ModelUnits


ShapeOf = Callable[[str], Shape]


@pytest.fixture(scope="session")
def shape_of(tmp_path_factory: pytest.TempPathFactory) -> ShapeOf:
    """The shape of a tiny model by its name in `tests.models.tiny`."""
    folder = tmp_path_factory.mktemp("shapes")

    @cache
    def shape(name: str) -> Shape:
        with open_gguf(tiny_gguf(name, folder, block_format="q8_0")) as checkpoint:
            config = config_from_checkpoint(checkpoint)
            return Shape(config, model_units(config, checkpoint.tensors))

    return shape


DENSE_NBYTES, EXPERT_NBYTES, EMBEDDING_NBYTES = 34 * 300_000, 34 * 90_000, 34 * 600_000
SLOT_NBYTES = EXPERT_NBYTES // 4096 * 4096 + 8192


def unit_of(nbytes: int, stretches: int = 1) -> Unit:
    """A unit of q8_0, of so many bytes, in so many pieces of the file."""
    each = nbytes // stretches
    parts = tuple(Stretch(0, 2 * each * index, each) for index in range(stretches))
    return Unit(parts, (Member("weight", format_by_name("q8_0"), (nbytes // 34, 32), 0),))


@pytest.fixture(scope="session")
def moe(shape_of: ShapeOf) -> Shape:
    """Four layers of 64 experts of 3 MB, 8 for a token, beside dense parts of 10 MB; head and embedding 20 MB
    each; KV of 1,024 bytes a position.
    """
    config = shape_of("olmoe").config
    assert config.experts is not None
    experts = replace(
        config.experts,
        num_experts=64,
        routing=replace(config.experts.routing, top_k=8),
        layers=(True,) * 4,
    )
    config = replace(
        config, vocab_size=40_000, num_layers=4, windows=(0,) * 4, context_length=4096, experts=experts
    )
    expert = unit_of(EXPERT_NBYTES, stretches=3)
    layers = tuple(
        LayerUnits(layer, DENSE_NBYTES, unit_of(DENSE_NBYTES), 64, EXPERT_NBYTES, (expert,) * 64, SLOT_NBYTES)
        for layer in range(4)
    )
    whole = unit_of(EMBEDDING_NBYTES)
    return Shape(config, ModelUnits(EMBEDDING_NBYTES, whole, EMBEDDING_NBYTES, whole, 1000, layers))


@pytest.fixture(scope="session")
def dense(shape_of: ShapeOf) -> Shape:
    """Ten layers of 10 MB without experts; the embedding of 20 MB is the head."""
    config = shape_of("llama-tied").config
    config = replace(config, vocab_size=40_000, num_layers=10, windows=(0,) * 10, context_length=4096)
    layers = tuple(LayerUnits(layer, DENSE_NBYTES, unit_of(DENSE_NBYTES), 0, 0, (), 0) for layer in range(10))
    return Shape(config, ModelUnits(EMBEDDING_NBYTES, unit_of(EMBEDDING_NBYTES), 0, None, 1000, layers))
