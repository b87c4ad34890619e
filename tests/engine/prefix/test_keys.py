"""Keys of KV blocks: they name everything that a block depends on, and nothing else."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.engine.prefix.keys import KEY_NBYTES, chain_keys, fingerprint, root_key

ROOT = root_key(fingerprint("m", "t", "f16"))
IDS = st.lists(st.integers(0, 150_000), max_size=40)


@given(IDS, st.integers(1, 8))
def test_there_is_one_key_for_each_full_block(ids: list[int], block_tokens: int) -> None:
    keys = chain_keys(ids, ROOT, block_tokens)
    assert len(keys) == len(ids) // block_tokens
    assert all(len(key) == KEY_NBYTES for key in keys)
    assert len(set(keys)) == len(keys)


@given(IDS, IDS)
def test_prompts_share_keys_exactly_as_far_as_they_share_blocks(a: list[int], b: list[int]) -> None:
    shared = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    pairs = list(zip(chain_keys(a, ROOT, 4), chain_keys(b, ROOT, 4), strict=False))
    assert [x == y for x, y in pairs] == [(i + 1) * 4 <= shared for i in range(len(pairs))]


@given(IDS, st.integers(0, 9))
def test_a_chain_goes_on_from_any_of_its_keys(ids: list[int], cut: int) -> None:
    keys = chain_keys(ids, ROOT, 4)
    cut = min(cut, len(keys))
    assert chain_keys(ids[4 * cut :], keys[cut - 1] if cut else ROOT, 4) == keys[cut:]


def test_every_part_of_the_root_tells_chains_apart() -> None:
    names = ("model", "tokenizer", "layout", "exact")
    prints = {fingerprint(*names)}
    for i in range(4):
        prints.add(fingerprint(*(name + "x" * (i == j) for j, name in enumerate(names))))
    prints.add(fingerprint("mode", "ltokenizer", "layout", "exact"))
    roots = {root_key(print_, salt) for print_ in prints for salt in ("", "a", "b")}
    assert len(roots) == 6 * 3
    assert len({chain_keys(range(32), root)[0] for root in roots}) == len(roots)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32])
def test_the_type_of_the_token_numbers_says_nothing(dtype: type) -> None:
    assert chain_keys(np.arange(64, dtype=dtype), ROOT) == chain_keys(list(range(64)), ROOT)


def test_the_keys_of_4000_tokens_take_less_than_a_millisecond() -> None:
    ids = np.random.default_rng(0).integers(0, 50_000, 4000, dtype=np.int32)
    best = 1.0
    for _ in range(20):
        start = perf_counter()
        chain_keys(ids, ROOT)
        best = min(best, perf_counter() - start)
    assert best < 1e-3
