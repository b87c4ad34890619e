"""`apportion simulate`: traces and seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from apportion.engine.step_log import LoggedItem, LoggedStep, StepLog
from apportion.simulate.serving import run

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:15:{second:02d}.0000000,{100 + 40 * second},{5 + second % 3}\n" for second in range(20)
)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "conv.csv"
    path.write_text(AZURE)
    return path


def test_a_trace_is_replayed_with_several_schedulers(apportion, trace: Path) -> None:
    found = apportion("simulate", trace, "--scheduler", "fcfs,chunked:tokens=64", "--json").object
    assert [row["scheduler"] for row in found["rows"]] == ["fcfs", "chunked:tokens=64"]
    assert all(row["requests"] == 20 for row in found["rows"])
    assert found["fit"] is None
    for row in found["rows"]:
        assert 0 < row["ttft_s"]["p50"] <= row["ttft_s"]["p90"] <= row["ttft_s"]["p99"]


def test_the_table_says_what_it_shows_and_what_times_are_from(apportion, trace: Path) -> None:
    text = apportion("simulate", trace, "--interval", "0.5", "--length", "0.5", "--limit", "7").out
    assert "longest gap ms" in text
    assert "7 requests served, 0 too long" in text
    assert "not of this machine" in text


def test_a_trace_is_thinned(apportion, trace: Path) -> None:
    found = apportion("simulate", trace, "--every", "6", "--json").object
    assert found["every"] == 6
    assert [row["requests"] for row in found["rows"]] == [4, 4]


def test_measured_steps_are_fitted_and_the_error_is_printed(apportion, trace: Path, tmp_path: Path) -> None:
    steps = [LoggedStep(float(n), 0.01 + 0.001 * n, (LoggedItem(0, n + 1, 0, 0, 2),)) for n in range(40)]
    StepLog(2, steps).write(tmp_path / "steps.jsonl")
    result = apportion("simulate", trace, "--steps", tmp_path / "steps.jsonl")
    assert "fitted to 40 measured steps" in result.out
    found = apportion("simulate", trace, "--steps", tmp_path / "steps.jsonl", "--json").object
    assert found["fit"]["median_error"] < 0.02


def test_requests_are_drawn(apportion) -> None:
    found = apportion("simulate", "--rate", "5", "--prompt", "50", "--limit", "20", "--json").object
    assert [row["requests"] for row in found["rows"]] == [20, 20]
    assert found["trace"] is None


def test_seeds_are_carried_out(apportion) -> None:
    assert "3 of 3 seeds kept every rule" in apportion("simulate", "--seeds", "3").out
    assert apportion("simulate", "--seed", "2", "--json").object["seeds"] == 1


def test_a_seed_that_breaks_a_rule_is_told_and_the_status_is_1(
    apportion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "answer_alone", lambda prompt, most: [0] * most)
    result = apportion("simulate", "--seed", "5", "--json")
    assert result.status == 1
    assert list(result.object["failed"]) == ["5"]
    assert "apportion simulate --seed 5" in result.err


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        ([], 2, "there is nothing to simulate"),
        (["--scheduler", "nobody", "--rate", "1"], 1, "scheduler"),
        (["--retention", "nothing", "--rate", "1"], 1, "retention"),
        (["missing.csv"], 1, "there is no trace"),
        (["missing.csv", "--rate", "2"], 2, "requests come from a trace or are drawn"),
        (["--rate", "1", "--steps", "missing.jsonl"], 1, "no log of steps"),
    ],
)
def test_what_makes_no_sense_is_refused(apportion, words: list[str], status: int, complaint: str) -> None:
    result = apportion("simulate", *words)
    assert result.status == status
    assert complaint in result.err
    assert "Traceback" not in result.err
