"""What keys and values are worth by the machine's and the model's own figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.models.tiny import tiny_gguf

from apportion import LLM
from apportion.engine import block_cost as module
from apportion.engine.assembly import Serving
from apportion.engine.block_cost import block_cost
from apportion.engine.prefix.cost import BlockCost
from apportion.plan.machine import DiskRates, Machine, Way, machine

SERVING = Serving(retention="cost_aware", ctx=128)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf("olmoe", tmp_path_factory.mktemp("model"), block_format="q8_0")


def test_the_baseline_asks_for_no_figures(path: Path) -> None:
    with LLM(path, ctx=128) as llm:
        assert block_cost(llm.loaded, Serving(ctx=128)) == BlockCost()


def test_computing_takes_what_the_cost_model_says(path: Path) -> None:
    with LLM(path, ctx=128) as llm:
        cost = block_cost(llm.loaded, SERVING)
    assert cost.token_s > 0
    assert cost.attended_token_s >= 0
    assert cost.recompute_s(200, 32) >= cost.recompute_s(0, 32) > 0


def test_a_plan_whose_weights_stream_makes_computing_dear(path: Path) -> None:
    with LLM(path, ram="4GiB", ctx=128) as whole:
        plan, resident = whole.plan, block_cost(whole.loaded, SERVING)
    assert plan is not None
    with LLM(path, plan=replace(plan, expert_slots=(2, 2, 2))) as llm:
        assert block_cost(llm.loaded, SERVING).token_s > resident.token_s


def test_reading_takes_what_the_folders_disk_does(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    known = machine(None, 1)
    fast = Machine(known.memory, known.int8, known.f32, DiskRates((Way(1 << 20, 1, 7e9),)), "")
    monkeypatch.setattr(module, "profile_for", lambda file: asked.append(file))
    monkeypatch.setattr(module, "machine", lambda profile, threads: fast)
    with LLM(path, ctx=128) as llm:
        cost = block_cost(llm.loaded, replace(SERVING, kv_dir=tmp_path / "not" / "made"))
    assert asked == [path, tmp_path]
    assert cost.reload_s(7_000_000) == pytest.approx(1e-3)


def test_an_engine_judges_by_them(path: Path, tmp_path: Path) -> None:
    with LLM(path, ctx=128, retention="cost_aware", kv_disk="32MiB", kv_dir=tmp_path) as llm:
        assert llm._assembled.index is not None
        assert llm._assembled.index._cost == block_cost(llm.loaded, replace(SERVING, kv_dir=tmp_path))
