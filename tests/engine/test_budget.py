from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.models.tiny import tiny_gguf

from apportion import LLM, SamplingParams
from apportion.core.claim import Kind, Tier
from apportion.core.errors import BadFile, DoesNotFit, FileChanged, UsageError
from apportion.core.units import MiB
from apportion.plan import write_plan

GREEDY = SamplingParams(max_tokens=12, temperature=0, ignore_eos=True)
PROMPT = np.random.default_rng(2).integers(0, 256, 50).tolist()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf("olmoe", tmp_path_factory.mktemp("model"), block_format="q8_0")


@pytest.fixture(scope="module")
def answer(model: Path) -> tuple[int, ...]:
    return LLM(model).generate(PROMPT, GREEDY).token_ids


def smallest(model: Path) -> int:
    with pytest.raises(DoesNotFit) as caught:
        LLM(model, ram=MiB)
    found = caught.value.numbers["smallest_budget"]
    assert isinstance(found, int)
    return found


def test_a_roomy_budget_keeps_everything_in_memory(model: Path, answer: tuple[int, ...]) -> None:
    llm = LLM(model, ram="4GiB")
    assert llm.plan is not None
    assert llm.plan.resident_fraction == 1
    assert llm.loaded.apportioned is not None
    assert llm.loaded.apportioned.residency is None
    assert llm.generate(PROMPT, GREEDY).token_ids == answer


def test_answers_are_the_same_at_a_budget_that_holds_a_part(model: Path, answer: tuple[int, ...]) -> None:
    plan = LLM(model, ram="4GiB").plan
    assert plan is not None
    for prefill in ("layer_major", "chunked"):
        tight = replace(plan, expert_slots=(2, 3, 4), streamed_layers=(1,), stream_buffers=2, prefill=prefill)
        with LLM(model, plan=tight) as llm:
            assert llm.generate(PROMPT, GREEDY).token_ids == answer
            residency = llm.loaded.apportioned.residency  # type: ignore[union-attr]
            assert residency is not None
            assert residency.counters.misses > 0


def test_a_plan_is_carried_out_from_its_file(model: Path, answer: tuple[int, ...], tmp_path: Path) -> None:
    plan = LLM(model, ram="4GiB", ctx=100).plan
    assert plan is not None
    file = tmp_path / "plan.toml"
    write_plan(plan, file)
    file.write_text(file.read_text().replace("expert_slots = [8, 8, 8]", "expert_slots = [2, 8, 2]"))
    with LLM(model, plan=file) as llm:
        assert llm.plan is not None
        assert llm.plan.expert_slots == (2, 8, 2)
        assert llm.ctx == 100
        assert llm.generate(PROMPT, GREEDY).token_ids == answer


def test_a_budget_that_is_too_small_is_refused_with_one_that_does(model: Path) -> None:
    least = smallest(model)
    with pytest.raises(DoesNotFit, match="would do"):
        LLM(model, ram=least // 2)


def test_a_plan_and_a_budget_exclude_each_other(model: Path) -> None:
    plan = LLM(model, ram="4GiB").plan
    with pytest.raises(UsageError, match="exclude"):
        LLM(model, ram="4GiB", plan=plan)


def test_the_ledger_accounts_for_every_kind(model: Path) -> None:
    llm = LLM(model, ram="4GiB")
    assert llm.ledger is not None
    assert llm.plan is not None
    account = llm.ledger.account().tiers[Tier.RAM]
    for kind in (Kind.DENSE_WEIGHTS, Kind.KV, Kind.WORKSPACE, Kind.RESERVE):
        assert account.by_kind[kind] == llm.plan.nbytes[kind]
    assert account.used <= 4 << 30
    assert Kind.IO_BUFFERS not in account.by_kind, "those of loading were given back"


def test_a_budget_is_lowered_while_the_model_is_loaded(model: Path, answer: tuple[int, ...]) -> None:
    plan = LLM(model, ram="4GiB").plan
    assert plan is not None
    with LLM(model, plan=replace(plan, expert_slots=(6, 6, 6))) as llm:
        assert llm.ledger is not None
        used = llm.ledger.account().tiers[Tier.RAM].used
        assert llm.set_ram(used - 2 * 4096) == 0
        assert llm.ledger.account().tiers[Tier.RAM].used < used
        assert llm.generate(PROMPT, GREEDY).token_ids == answer


def test_without_a_budget_there_is_none_to_lower(model: Path) -> None:
    with pytest.raises(UsageError, match="no budget"):
        LLM(model).set_ram("1GiB")


def test_a_file_that_is_written_to_while_it_is_used_gives_an_error(tmp_path: Path, model: Path) -> None:
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(model.read_bytes())
    plan = LLM(copy, ram="4GiB").plan
    assert plan is not None
    with LLM(copy, plan=replace(plan, expert_slots=(2, 2, 2))) as llm:
        llm.generate(PROMPT, GREEDY)
        with copy.open("r+b") as stream:
            stream.seek(-64, os.SEEK_END)
            stream.write(bytes(64))
        with pytest.raises(FileChanged, match="changed while it was in use"):
            llm.generate(PROMPT[::-1], GREEDY)


def test_a_file_that_is_replaced_while_it_is_used_goes_on_as_it_was(
    tmp_path: Path, model: Path, answer: tuple[int, ...]
) -> None:
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(model.read_bytes())
    plan = LLM(copy, ram="4GiB").plan
    assert plan is not None
    with LLM(copy, plan=replace(plan, expert_slots=(2, 2, 2))) as llm:
        other = tmp_path / "other.gguf"
        other.write_bytes(bytes(copy.stat().st_size))
        other.replace(copy)
        assert llm.generate(PROMPT, GREEDY).token_ids == answer
    with pytest.raises(BadFile):
        LLM(copy)


def test_as_many_run_at_once_as_was_planned_unless_asked_otherwise(
    model: Path, answer: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apportion.plan.planner.company", lambda *arguments: 1)
    whole = LLM(model, ram="4GiB", ctx=100, concurrency=3).plan
    assert whole is not None
    assert whole.max_running == 0, "nothing streams"
    streamed = replace(whole, expert_slots=(3, 3, 3))
    for asked, most in ((None, 1), (2, 2)):
        with LLM(model, plan=streamed, max_running=asked) as llm:
            assert llm.plan is not None
            assert llm.plan.max_running == 1
            seen: list[int] = []
            llm.engine.on_step = lambda items, begin, seconds, seen=seen: seen.append(len(items))
            found = llm.generate([PROMPT] * 3, GREEDY)
            assert max(seen) == most
            assert {one.token_ids for one in found} == {answer}
    with pytest.raises(UsageError, match="max_running"):
        LLM(model, max_running=0)
