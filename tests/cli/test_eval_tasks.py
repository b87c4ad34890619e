"""`apportion eval tasks` and `apportion eval export`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def task_file(tmp_path) -> Path:
    path = tmp_path / "rain.jsonl"
    lines = [
        {
            "query": f"Question: does it rain {number} times?",
            "choices": ["no", "yes, it does"],
            "gold": number % 2,
        }
        for number in range(6)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_table_tells_accuracy_and_its_interval(apportion, tiny_path, task_file) -> None:
    outcome = apportion("eval", "tasks", tiny_path, task_file, task_file)
    assert outcome.status == 0, outcome.err
    rows = [line for line in outcome.out.splitlines() if line.startswith("rain")]
    assert len(rows) == 2
    assert " to " in rows[0]
    assert "12 items" in outcome.out


def test_json_has_the_figures_and_each_item_goes_to_a_file(apportion, tiny_path, task_file, tmp_path) -> None:
    each = tmp_path / "each.jsonl"
    found = apportion("eval", "tasks", tiny_path, task_file, "--limit", 4, "--each", each, "--json").object
    (result,) = found["results"]
    assert (result["task"], result["items"]) == ("rain", 4)
    assert {"value", "low", "high", "stderr"} == set(result["accuracy"])
    lines = [json.loads(line) for line in each.read_text().splitlines()]
    assert [line["item"] for line in lines] == [0, 1, 2, 3]
    right = sum(line["choice"] == line["gold"] for line in lines)
    assert result["accuracy"]["value"] == right / 4
    assert len(lines[0]["logprobs"]) == 2


def test_answers_under_a_budget_are_the_same(apportion, tiny_path, task_file, tmp_path) -> None:
    def answers(*words: object) -> str:
        each = tmp_path / "each.jsonl"
        outcome = apportion("eval", "tasks", tiny_path, task_file, "--each", each, *words)
        assert outcome.status == 0, outcome.err
        return each.read_text()

    assert answers() == answers("--ram", "2GiB", "--ctx", 200, "--together", 3)


def test_an_item_longer_than_the_context_is_an_error(apportion, tiny_path, task_file) -> None:
    outcome = apportion("eval", "tasks", tiny_path, task_file, "--ctx", 10, "--json")
    assert outcome.status == 1
    assert "context_overflow" in outcome.out + outcome.err


def test_tasks_are_written_for_another_program(apportion, task_file, tmp_path) -> None:
    folder = tmp_path / "made" / "here"
    assert apportion("eval", "export", folder, task_file).out == "apportion_rain\n"
    assert sorted(path.name for path in folder.iterdir()) == ["apportion_rain.jsonl", "apportion_rain.yaml"]
    assert apportion("eval", "export", folder, task_file, "--json").object == {"tasks": ["apportion_rain"]}


def test_a_file_of_nothing_is_refused(apportion, tiny_path, tmp_path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text("")
    assert "no items" in apportion("eval", "tasks", tiny_path, path).err
