from __future__ import annotations

import resource

import numpy as np
import pytest
from tests.models.tiny import TINY, tiny_config

from apportion.core.errors import ContextOverflow, UsageError
from apportion.kernels import LayerShape
from apportion.models import KvCache, kv_bytes_per_token
from apportion.models.cache import kv_layout, kv_shapes


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("name", TINY)
def test_bytes_are_those_that_are_forecast_in_whole_blocks(name: str, dtype: type) -> None:
    config = tiny_config(name)
    rows = 64 * kv_bytes_per_token(config, dtype)
    assert rows <= KvCache(config, 50, dtype).nbytes < rows + 2 * 4096


def test_latent_attention_keeps_one_vector_per_position() -> None:
    config = tiny_config("deepseek2")
    assert kv_bytes_per_token(config) == 3 * (32 + 16) * 2
    assert set(kv_shapes(config)) == {LayerShape(1, 48, 32, joint=True)}
    layers = kv_layout(config).layers
    assert [pages.offset for pages in layers] == [0, 32 * 96, 2 * 32 * 96]


def test_capacity_takes_no_memory_until_it_is_filled() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cache = KvCache(tiny_config("llama"), 2_000_000)  # 768 MB
    assert cache.nbytes > 700_000_000
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 50_000


def test_positions_are_counted_and_forgotten() -> None:
    cache = KvCache(tiny_config("llama"), 10)
    cache.advance(7)
    with pytest.raises(ContextOverflow):
        cache.advance(4)
    assert cache.length == 7
    cache.truncate(2)
    cache.advance(8)
    assert cache.length == 10


@pytest.mark.parametrize(
    ("capacity", "dtype"), [(0, np.float16), (-1, np.float32), (8, np.float64), (8, np.int8)]
)
def test_caches_that_cannot_be_are_refused(capacity: int, dtype: type) -> None:
    with pytest.raises(UsageError):
        KvCache(tiny_config("llama"), capacity, dtype)
