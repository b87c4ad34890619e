"""The measure of what a server costs, on a tiny model: that it measures, not what."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks import serve_overhead
from tests.models.tiny import tiny_gguf

WORDS = ["--clients", 2, "--output", 192, "--idle", 3, "--slow", 1, "--rounds", 1]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much as a tiny model's context holds."""
    monkeypatch.setattr(serve_overhead, "LONG", 100)
    monkeypatch.setattr(serve_overhead, "HEALTHY", {"prompt": 16, "output": 32, "requests": 2})


def run(words: list[object], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["script.py", *map(str, words)])
        serve_overhead.main()
    return capsys.readouterr().out


def test_steps_and_a_crowd_are_measured(
    short: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = json.loads(run([tiny_gguf("llama", tmp_path), *WORDS, "--json"], capsys))
    assert report["steps"]["clients"] == 2
    (steps,) = report["steps"]["rounds"]
    assert set(steps) == {"alone_s", "served_s", "loop_s"}
    assert 0 < steps["alone_s"] < 1
    assert 0 < steps["served_s"] < 1
    (crowd,) = report["crowd"]["rounds"]
    names = {f"{name}_{way}_s" for name in ("ttft_s", "gap_s", "e2e_s") for way in ("alone", "beside")}
    assert set(crowd) == names
    # A tiny model's words may come in one piece: then nothing lies between them.
    assert all(value > 0 or name.startswith("gap") for name, value in crowd.items())
    assert all(0 <= value < 60 for value in crowd.values())


def test_what_it_adds_is_reckoned_by_the_token_and_by_the_share() -> None:
    steps = [{"alone_s": 0.010, "served_s": 0.0104, "loop_s": 0.00009}]
    names = ("ttft_s", "gap_s", "e2e_s")
    crowd = [{**{f"{name}_alone_s": 0.1 for name in names}, **{f"{name}_beside_s": 0.11 for name in names}}]
    report: dict[str, Any] = {
        "model": "tiny",
        "rounds": 1,
        "steps": {"clients": 4, "rounds": steps},
        "crowd": {"idle": 3, "slow": 1, "rounds": crowd},
        "provenance": {"processor": "one", "commit": "abc", "date": "today", "load_average": 0.5},
    }
    said = serve_overhead.markdown(report)
    line = next(line for line in said.splitlines() if "added to the step" in line)
    assert "100.0 (100.0 to 100.0)" in line
    assert said.count("+10%") == 3
    assert "beside 3 idle, 1 slow" in said
