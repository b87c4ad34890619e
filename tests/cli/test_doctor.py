"""`apportion doctor`: a table for people, one object for programs, an exit status for both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from apportion.bench import examine


def test_the_table_tells_each_finding_and_counts_them(apportion, tiny_path: Path) -> None:
    outcome = apportion("doctor", tiny_path)
    assert outcome.status == 0
    assert "io_uring" in outcome.out
    assert "streaming" in outcome.out
    assert outcome.out.rstrip().endswith(".")
    assert "read-ahead" not in outcome.out


def test_json_is_one_object_with_numbers(apportion, tiny_path: Path) -> None:
    told = apportion("doctor", tiny_path, "--json").object
    assert told["model"]
    assert told["level"] in ("ok", "note", "warning")
    memory = next(finding for finding in told["findings"] if finding["about"] == "memory")
    assert memory["numbers"]["smallest_budget"] > 0
    assert set(memory) == {"level", "about", "what", "why", "advice", "numbers"}


def test_without_a_model_the_machine_is_looked_at_alone(apportion) -> None:
    told = apportion("doctor", "--json").object
    assert told["model"] is None
    assert not any(finding["about"] == "packing" for finding in told["findings"])


def test_a_model_that_cannot_run_here_is_a_problem(
    apportion, tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = examine.examine(str(tiny_path))
    assert facts.model is not None
    huge = replace(facts, model=replace(facts.model, smallest_budget=1 << 60))
    monkeypatch.setattr(examine, "examine", lambda model: huge)
    outcome = apportion("doctor", tiny_path)
    assert outcome.status == 1
    assert "1 problem" in outcome.out
    assert apportion("doctor", tiny_path, "--json").object["level"] == "problem"


def test_a_name_with_control_characters_does_no_harm(
    apportion, tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = examine.examine(str(tiny_path))
    assert facts.model is not None
    bad = replace(facts, model=replace(facts.model, name="\x1b[2Jgone", smallest_budget=1 << 60))
    monkeypatch.setattr(examine, "examine", lambda model: bad)
    assert "\x1b[2J" not in apportion("doctor", tiny_path).out


def test_what_is_not_on_this_machine_is_an_error(apportion) -> None:
    outcome = apportion("doctor", "/nothing.gguf")
    assert outcome.status != 0
    assert "nothing.gguf" in outcome.err
