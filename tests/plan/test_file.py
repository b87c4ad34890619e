from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.core.errors import ApportionError, BadFile, DiskFault, NotFound
from apportion.core.units import GiB
from apportion.plan import Plan, plan_from_dict, read_plan, write_plan

Told = dict[str, Any]


@pytest.mark.parametrize("name", ["plan.json", "plan.toml", "plan"])
def test_a_plan_is_read_back_as_it_was_written(plan: Plan, tmp_path: Path, name: str) -> None:
    write_plan(plan, tmp_path / name)
    assert read_plan(tmp_path / name) == plan


def test_toml_is_real_toml_with_sizes_in_words_beside_them(plan: Plan, tmp_path: Path) -> None:
    write_plan(plan, tmp_path / "plan.toml")
    text = (tmp_path / "plan.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text) == plan.to_dict()
    assert "# 512 MiB" in text


@given(model=st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=30, deadline=None)
def test_any_name_survives_both_formats(tmp_path_factory: pytest.TempPathFactory, model: str) -> None:
    folder = tmp_path_factory.mktemp("plans")
    plan = replace(plan_from_dict(PLAIN), model=model)
    for name in ("plan.json", "plan.toml"):
        write_plan(plan, folder / name)
        assert read_plan(folder / name).model == model


def test_a_person_may_write_sizes_as_text(plan: Plan) -> None:
    told = {**plan.to_dict(), "ram": "2 GiB"}
    assert plan_from_dict(told).ram == 2 * GiB


def put(*path: str, value: object) -> Callable[[Told], None]:
    def change(told: Told) -> None:
        for key in path[:-1]:
            told = told[key]
        told[path[-1]] = value

    return change


def drop(*path: str) -> Callable[[Told], None]:
    def change(told: Told) -> None:
        for key in path[:-1]:
            told = told[key]
        del told[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("expert_slot", value=[]), "unknown key expert_slot.*did you mean 'expert_slots'"),
        (put("policies", "cache", value="lru"), "unknown key policies.cache"),
        (put("bytes", "cats", value=1), "unknown key bytes.cats"),
        (put("forecast", "ranges", "x", value=1), "unknown key forecast.ranges.x"),
        (drop("ctx"), "the key ctx is missing"),
        (drop("bytes", "kv"), "the key bytes.kv is missing"),
        (put("version", value=1), "version 1"),
        (put("ram", value="much"), "ram: not a size"),
        (put("ram", value=-1), "ram: it must be 0 at least"),
        (put("ctx", value=0), "ctx: it must be 1 at least"),
        (put("ctx", value=True), "ctx: it must be a whole number"),
        (put("threads", value=1.5), "threads: it must be a whole number"),
        (put("kv", value=3), "kv: it must be a text"),
        (put("kv", value="q9"), "kv: unknown KV codec"),
        (put("kv", value="f16*2,q8*9"), "kv: .* not for as many layers"),
        (put("model", value=3), "model: it must be a text"),
        (put("expert_slots", value=3), "expert_slots: it must be a list"),
        (put("expert_slots", value=[3, "x"]), "expert_slots: it must be a whole number"),
        (put("expert_slots", value=[2] * 9000), "expert_slots: it has 9000 items"),
        (put("streamed_layers", value=[1, 0]), "each layer once, in order"),
        (put("streamed_layers", value=[1, 1]), "each layer once, in order"),
        (put("stream_buffers", value=1), "two buffers at least"),
        (put("advice", value=[1]), "advice: it must be a list of texts"),
        (put("hit_rate", value=1.5), "hit_rate: it must lie between 0 and 1"),
        (put("resident_fraction", value=float("inf")), "resident_fraction: it must be a finite number"),
        (put("policies", value=[]), "policies is not a table"),
        (put("forecast", "decode_tok_s", value=100), "forecast.decode_tok_s: it lies outside of its range"),
        (put("forecast", "ranges", "load_s", value=[1]), "forecast.ranges.load_s: it must be a list of two"),
    ],
)
def test_what_is_wrong_in_a_plan_is_named_with_its_key(
    plan: Plan, change: Callable[[Told], None], words: str
) -> None:
    told = copy.deepcopy(plan.to_dict())
    change(told)
    with pytest.raises(BadFile, match=words):
        plan_from_dict(told)


def test_files_that_are_no_plans_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no such file"):
        read_plan(tmp_path / "none.json")
    with pytest.raises(DiskFault):
        read_plan(tmp_path)
    for name, data in (
        ("a.json", b"{"),
        ("b.json", b"[]"),
        ("c.toml", b"a = "),
        ("d.toml", b"\xff"),
        ("e.json", b" " * (1 << 20) + b"{}"),
        ("f.toml", b"a = " + b"[" * 5000),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BadFile, match=name):
            read_plan(tmp_path / name)


def test_a_folder_that_cannot_be_written_is_said(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(DiskFault, match="cannot write the plan"):
        write_plan(plan, tmp_path / "none" / "plan.json")


@given(data=st.binary(max_size=40))
@settings(max_examples=50, deadline=None)
def test_bytes_by_chance_give_an_error_of_ours(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("plans")
    for name in ("plan.json", "plan.toml"):
        (folder / name).write_bytes(data)
        with pytest.raises(ApportionError):
            read_plan(folder / name)


PLAIN: Told = json.loads(
    """{"version": 2, "model": "m", "ram": 1, "ctx": 1, "kv": "f16", "threads": 1, "concurrency": 1,
    "tokens_per_pass": 1, "prefill": "chunked", "embedding": "resident", "expert_slots": [0],
    "streamed_layers": [], "stream_buffers": 0, "resident_fraction": 1, "hit_rate": 1,
    "hit_rate_source": "", "disk_bytes_per_token": 0, "advice": [],
    "policies": {"placement": "a", "expert_cache": "b", "prediction": "c", "load_order": "d",
    "scheduler": "e", "retention": "f"},
    "scheduler": "", "scheduler_why": "", "max_running": 0,
    "bytes": {"runtime": 0, "dense_weights": 0, "expert_slots": 0, "kv": 0, "workspace": 0,
    "io_buffers": 0, "reserve": 0},
    "forecast": {"decode_tok_s": 1, "prefill_tok_s": 1, "ttft_s": 1, "load_s": 1, "prompt_tokens": 1,
    "basis": "", "ranges": {"decode_tok_s": [1, 1], "prefill_tok_s": [1, 1], "ttft_s": [1, 1],
    "load_s": [1, 1]}}}"""
)
