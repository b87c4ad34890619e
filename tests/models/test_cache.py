from __future__ import annotations

import resource

import pytest
from tests.models.tiny import TINY, tiny_config

from apportion.core.errors import ContextOverflow, NotFound, UsageError
from apportion.kernels import LayerShape
from apportion.kernels.kv_codecs import CODECS
from apportion.models import KvCache, kv_bytes_per_token, kv_nbytes
from apportion.models.cache import kv_layout, kv_shapes


@pytest.mark.parametrize("kv", CODECS.names())
@pytest.mark.parametrize("name", TINY)
def test_bytes_are_those_that_are_forecast_in_whole_blocks(name: str, kv: str) -> None:
    config = tiny_config(name)
    for capacity in (50, 3000):
        cache = KvCache(config, capacity, kv)
        blocks = len(cache.table)
        rows = 32 * blocks * kv_bytes_per_token(config, kv)
        assert (
            rows
            <= cache.pool.memory.nbytes
            < rows + blocks * (4096 + 64 * config.num_layers * config.num_kv_heads)
        )
        if cache.hot_pool is not None:
            assert cache.hot_pool.num_blocks == min(blocks, 10)
            assert cache.hot_pool.layout == KvCache(config, 1).pool.layout
        forecast = kv_nbytes(config, kv, capacity)
        assert cache.nbytes <= forecast
        assert kv.endswith("smooth") or cache.nbytes == forecast


def test_layers_may_have_codecs_of_their_own() -> None:
    config = tiny_config("llama")
    cache = KvCache(config, 64, "f16,q4")
    assert cache.hot_pool is not None
    assert {pages.codec for pages in cache.hot_pool.layout.layers} == {"f16"}
    assert [pages.codec for pages in cache.pool.layout.layers[:2]] == ["f16", "q4"]
    assert KvCache(config, 64, "f32,q8").hot_pool is None
    with pytest.raises(UsageError, match="smoothed"):
        KvCache(config, 64, "q8,q4_smooth")


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
    ("capacity", "kv", "error"),
    [(0, "f16", UsageError), (-1, "f32", UsageError), (8, "f64", NotFound), (8, "q8*99", UsageError)],
)
def test_caches_that_cannot_be_are_refused(capacity: int, kv: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        KvCache(tiny_config("llama"), capacity, kv)
