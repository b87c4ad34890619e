"""Torture: everything that can be refused is refused, one call after the other. What fails fails cleanly,
nothing stays open or held, and the next try works.

Set APPORTION_LONG_TESTS to have every call fail instead of some forty of each story.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.models.tiny import tiny_gguf

from apportion import LLM, SamplingParams
from apportion.core.errors import ApportionError, DiskFault, DoesNotFit
from apportion.formats.source_file import SourceFile
from apportion.memory import Ledger, Reader
from apportion.plan import Plan

GREEDY = SamplingParams(max_tokens=6, temperature=0, ignore_eos=True)
PROMPT = np.random.default_rng(2).integers(0, 256, 30).tolist()
MOST = None if os.environ.get("APPORTION_LONG_TESTS") else 40
CALLS: tuple[tuple[type, str, Callable[[], ApportionError]], ...] = (
    (Ledger, "rearrange", lambda: DoesNotFit("refused by the test")),
    (Reader, "open", lambda: DiskFault("refused by the test")),
    (Reader, "submit", lambda: DiskFault("refused by the test")),
    (Reader, "wait", lambda: DiskFault("refused by the test")),
    (SourceFile, "read_into", lambda: DiskFault("refused by the test")),
)


@dataclass
class Tally:
    count: int = 0
    fail_at: int = -1

    def begin(self, fail_at: int = -1) -> None:
        self.count, self.fail_at = 0, fail_at


@contextmanager
def counted(fail_at: int = -1) -> Iterator[Tally]:
    """All calls that can be refused, of which the one with this number is."""
    tally = Tally(fail_at=fail_at)

    def watched(real: Callable[..., Any], error: Callable[[], ApportionError]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            tally.count += 1
            if tally.count - 1 == tally.fail_at:
                raise error()
            return real(*args, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, name, error in CALLS:
            patch.setattr(owner, name, watched(getattr(owner, name), error))
        yield tally


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf("olmoe", tmp_path_factory.mktemp("model"), block_format="q8_0")


@pytest.fixture(scope="module")
def plan(model: Path) -> Plan:
    with LLM(model, ram="4GiB") as llm:
        assert llm.plan is not None
        return replace(llm.plan, expert_slots=(2, 3, 4), streamed_layers=(1,), stream_buffers=2)


@pytest.fixture(scope="module")
def answer(model: Path) -> tuple[int, ...]:
    with LLM(model) as llm:
        return llm.generate(PROMPT, GREEDY).token_ids


def load_whole(model: Path, plan: Plan) -> None:
    LLM(model, ram="4GiB").close()


def load_in_parts(model: Path, plan: Plan) -> None:
    LLM(model, plan=plan).close()


def load_without_budget(model: Path, plan: Plan) -> None:
    LLM(model).close()


def one_answer(llm: LLM) -> None:
    llm.generate(PROMPT, GREEDY)


def many_answers(llm: LLM) -> None:
    llm.generate([PROMPT, PROMPT[:9], PROMPT[5:]], GREEDY)


def answer_of_a_form(llm: LLM) -> None:
    llm.generate(PROMPT[:5], SamplingParams(max_tokens=12, temperature=0, regex="[ab]{12,20}"))


def chosen(count: int) -> list[int]:
    """Which of so many calls are to fail: all, or some that lie evenly."""
    if MOST is None or count <= MOST:
        return [*range(count)]
    return sorted({round(place) for place in np.linspace(0, count - 1, MOST)})


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("story", [load_whole, load_in_parts, load_without_budget])
def test_loading_that_is_refused_anywhere_leaves_nothing_open(
    story: Callable[[Path, Plan], None], model: Path, plan: Plan
) -> None:
    with counted() as tally:
        story(model, plan)
    assert tally.count > 0
    for place in chosen(tally.count):
        before = open_files()
        with counted(place):
            try:
                story(model, plan)
            except ApportionError as error:
                assert str(error)
        assert open_files() == before, place
    story(model, plan)


@pytest.mark.parametrize("story", [one_answer, many_answers, answer_of_a_form])
def test_work_that_is_refused_anywhere_can_be_done_again(
    story: Callable[[LLM], None], model: Path, plan: Plan, answer: tuple[int, ...]
) -> None:
    with counted() as tally, LLM(model, plan=plan) as llm:
        assert llm.ledger is not None
        tally.begin()
        story(llm)
        assert tally.count > 0
        before, leased = open_files(), llm.ledger.account().num_leases
        for place in chosen(tally.count):
            tally.begin(place)
            try:
                story(llm)
            except ApportionError as error:
                assert str(error)
            engine = llm.engine
            assert (engine.num_running, engine.num_waiting, engine.space.promised) == (0, 0, 0), place
            assert open_files() == before, place
            assert llm.ledger.account().num_leases <= leased + 1, place
            tally.begin()
            assert llm.generate(PROMPT, GREEDY).token_ids == answer, place
