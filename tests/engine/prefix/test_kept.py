"""What is kept, as those see it who look after a server: listed, pinned, dropped; in memory and on disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.models.tiny import tiny_gguf

from apportion import LLM, SamplingParams
from apportion.core.errors import UsageError
from apportion.engine.prefix.keys import KEY_NBYTES
from apportion.kernels.kv_codec import BLOCK_TOKENS

GREEDY = SamplingParams(temperature=0, max_tokens=1)
RNG = np.random.default_rng(8)
FIRST = RNG.integers(0, 256, 3 * BLOCK_TOKENS).tolist()
SECOND = FIRST[: 2 * BLOCK_TOKENS] + RNG.integers(0, 256, BLOCK_TOKENS + 5).tolist()
OTHER = RNG.integers(0, 256, BLOCK_TOKENS + 1).tolist()
NO_KEY = "0" * 2 * KEY_NBYTES


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf("llama", tmp_path_factory.mktemp("model"), block_format="q8_0")


@pytest.fixture
def llm(path: Path) -> Iterator[LLM]:
    with LLM(path, ctx=256, concurrency=2, threads=1) as llm:
        yield llm


def ask(llm: LLM, prompt: list[int], salt: str = "") -> int:
    """The tokens of a prompt that needed no computing."""
    request = llm.request(np.array(prompt, np.int32), GREEDY, salt=salt)
    return llm.run([request])[0].cached_tokens


def listed(llm: LLM) -> list[tuple[int, tuple[str, ...]]]:
    return [(one.num_tokens, one.where) for one in llm.kept_prefixes()]


def test_nothing_is_kept_at_first(llm: LLM) -> None:
    assert llm.kept_prefixes() == []
    assert llm.drop_prefixes() == 0


def test_the_longest_of_each_beginning_is_listed_the_last_used_first(llm: LLM) -> None:
    for prompt in (FIRST, OTHER, SECOND):
        ask(llm, prompt)
    ask(llm, OTHER)
    assert listed(llm) == [
        (BLOCK_TOKENS, ("ram",)),
        (3 * BLOCK_TOKENS, ("ram",)),
        (3 * BLOCK_TOKENS, ("ram",)),
    ]
    newest, *_ = llm.kept_prefixes()
    assert newest.nbytes == llm.engine.space.pool.block_nbytes
    assert newest.num_uses == 2
    assert newest.pinned_s == 0
    assert 0 <= newest.idle_s < 60
    assert len(newest.key) == 2 * KEY_NBYTES
    assert [one.key for one in llm.kept_prefixes(1)] == [newest.key]


@pytest.mark.parametrize("by", ["prompt", "key"])
def test_what_is_pinned_stays_when_room_is_short(llm: LLM, by: str) -> None:
    ask(llm, FIRST)
    named = {"prompt": FIRST} if by == "prompt" else {"key": llm.kept_prefixes()[0].key}
    assert llm.pin_prefix(**named, seconds=60) == len(FIRST)  # type: ignore[arg-type]
    assert 0 < llm.kept_prefixes()[0].pinned_s <= 60
    for start in range(30):
        ask(llm, [start] * 200)
    assert ask(llm, FIRST) == len(FIRST) - 1
    assert llm.pin_prefix(**named, seconds=0) == len(FIRST)  # type: ignore[arg-type]
    assert all(one.pinned_s == 0 for one in llm.kept_prefixes())
    for start in range(30):
        ask(llm, [start] * 200)
    assert ask(llm, FIRST) == 0


def test_as_much_of_a_prompt_as_is_in_memory_is_pinned(llm: LLM) -> None:
    ask(llm, FIRST)
    assert llm.pin_prefix(SECOND, seconds=5) == 2 * BLOCK_TOKENS
    assert llm.pin_prefix(OTHER, seconds=5) == 0
    assert llm.pin_prefix(FIRST, salt="another", seconds=5) == 0
    assert llm.pin_prefix(key=NO_KEY, seconds=5) == 0


def test_one_prefix_is_dropped_with_what_continues_it_and_nothing_else(llm: LLM) -> None:
    for prompt in (FIRST, SECOND, OTHER):
        ask(llm, prompt)
    (key,) = [one.key for one in llm.kept_prefixes() if one.num_tokens == BLOCK_TOKENS]
    assert llm.drop_prefixes(key=key) == 1
    assert (ask(llm, OTHER), ask(llm, FIRST)) == (0, len(FIRST) - 1)
    keys = [one.key for one in llm.kept_prefixes() if one.num_tokens == 3 * BLOCK_TOKENS]
    assert llm.drop_prefixes(key=keys[0]) == 1
    assert sorted((ask(llm, FIRST), ask(llm, SECOND))) != [len(FIRST) - 1, 3 * BLOCK_TOKENS]
    assert llm.drop_prefixes(key=NO_KEY) == 0


def test_all_of_a_salt_is_dropped(llm: LLM) -> None:
    for salt in ("", "mine", "yours"):
        ask(llm, FIRST, salt)
    assert llm.drop_prefixes(salt="mine") == 3
    assert [ask(llm, FIRST, salt) for salt in ("", "mine", "yours")] == [95, 0, 95]


def test_everything_is_dropped_and_its_room_is_free(llm: LLM) -> None:
    for prompt in (FIRST, SECOND, OTHER):
        ask(llm, prompt)
    assert llm.drop_prefixes() == 5
    pool = llm.engine.space.pool
    assert (pool.num_free, llm.kept_prefixes()) == (pool.num_blocks, [])
    assert ask(llm, FIRST) == 0


def test_what_a_running_request_uses_stays_and_its_answer_the_same(llm: LLM) -> None:
    want = llm.generate(FIRST, replace(GREEDY, max_tokens=8, ignore_eos=True)).token_ids
    request = llm.request(np.array(FIRST, np.int32), replace(GREEDY, max_tokens=8, ignore_eos=True))
    ask(llm, OTHER)
    llm.engine.add(request)
    llm.engine.step()
    assert llm.drop_prefixes() == 1, "the other's"
    llm.engine.finish(request)
    assert request.completion.token_ids == want
    assert llm.drop_prefixes() > 0
    assert llm.engine.space.pool.num_free == llm.engine.space.pool.num_blocks


@pytest.mark.parametrize(
    "named",
    [{}, {"prompt": [1], "key": NO_KEY}, {"key": "zz"}, {"key": "00"}],
    ids=str,
)
def test_what_is_named_wrongly_is_refused(llm: LLM, named: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        llm.pin_prefix(**named, seconds=1)  # type: ignore[arg-type]


def test_a_time_or_a_key_that_is_none_is_refused(llm: LLM) -> None:
    with pytest.raises(UsageError):
        llm.pin_prefix(FIRST, seconds=-1)
    with pytest.raises(UsageError):
        llm.drop_prefixes(key="zz")
    with pytest.raises(UsageError):
        llm.drop_prefixes(key=NO_KEY, salt="")


# --- with a store on disk ---


@pytest.fixture
def stored(path: Path, tmp_path: Path) -> Iterator[LLM]:
    with LLM(path, ctx=128, threads=1, kv_disk="64MiB", kv_dir=tmp_path) as llm:
        yield llm


def flushed(llm: LLM) -> None:
    assert llm.store is not None
    assert llm.store.flush()


def test_it_is_told_what_lies_on_disk(stored: LLM) -> None:
    ask(stored, FIRST)
    flushed(stored)
    assert listed(stored) == [(96, ("ram", "disk"))]
    for start in range(4):
        ask(stored, [start] * 100)
    flushed(stored)
    by_tokens = [where for tokens, where in listed(stored) if tokens == 96]
    assert ("disk",) in by_tokens
    assert {where for _, where in listed(stored)} <= {("disk",), ("ram", "disk")}


def test_what_is_dropped_is_dropped_from_disk(stored: LLM) -> None:
    for salt in ("", "mine"):
        ask(stored, FIRST, salt)
    assert stored.drop_prefixes(salt="mine") == 3
    assert (ask(stored, FIRST, "mine"), ask(stored, FIRST)) == (0, 95)
    assert stored.drop_prefixes() == 6
    assert stored.kept_prefixes() == []
    assert ask(stored, FIRST) == 0


def test_any_thread_may_ask_while_requests_run(llm: LLM) -> None:
    over, seen = threading.Event(), []

    def look() -> None:
        while not over.is_set():
            llm.pin_prefix(FIRST, seconds=1)
            seen.append(len(llm.kept_prefixes()))
            llm.drop_prefixes(salt="gone")

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for start in range(20):
            ask(llm, FIRST[start:], "gone" if start % 2 else "")
    finally:
        over.set()
        thread.join()
    assert len(seen) > 3
