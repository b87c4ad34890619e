"""A plan to write, read and spoil."""

from __future__ import annotations

import pytest

from apportion.core.claim import Kind
from apportion.core.units import GiB, MiB
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
