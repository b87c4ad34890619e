"""`apportion batch`: a file of requests in, a file of answers out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    chat = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5, "temperature": 0}
    text = {"prompt": "once upon a time", "max_tokens": 6, "temperature": 0}
    asked = [
        {"custom_id": "chat", "method": "POST", "url": "/v1/chat/completions", "body": chat},
        {"custom_id": "text", "method": "POST", "url": "/v1/completions", "body": text},
        {"custom_id": "wrong", "method": "POST", "url": "/v1/completions", "body": {"prompts": "x"}},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in asked))
    return path


def test_every_line_is_answered_as_it_is_alone(apportion, tiny_path, source: Path, tmp_path: Path) -> None:
    outcome = apportion("batch", tiny_path, source, tmp_path / "out.jsonl")
    assert outcome.status == 0
    assert outcome.out == ""
    assert "3 lines: 2 answered, 1 failed" in outcome.err
    found = {line["custom_id"]: line for line in lines(tmp_path / "out.jsonl")}
    alone = apportion("run", tiny_path, "hello", "-n", 5, "-t", 0, "--json").object["text"]
    assert found["chat"]["response"]["body"]["choices"][0]["message"]["content"] == alone
    alone = apportion("run", tiny_path, "once upon a time", "--raw", "-n", 6, "-t", 0, "--json").object[
        "text"
    ]
    assert found["text"]["response"]["body"]["choices"][0]["text"] == alone
    assert "did you mean 'prompt'" in found["wrong"]["error"]["message"]


def test_a_second_run_has_nothing_to_do(apportion, tiny_path, source: Path, tmp_path: Path) -> None:
    apportion("batch", tiny_path, source, tmp_path / "out.jsonl")
    before = (tmp_path / "out.jsonl").read_bytes()
    again = apportion("batch", tiny_path, source, tmp_path / "out.jsonl", "--json", "--concurrency", 2).object
    assert (again["lines"], again["skipped"], again["answered"]) == (3, 3, 0)
    assert (tmp_path / "out.jsonl").read_bytes() == before


def test_files_that_cannot_be_used_are_errors(apportion, tiny_path, source: Path, tmp_path: Path) -> None:
    assert apportion("batch", tiny_path, tmp_path / "none", tmp_path / "out").status == 2
    notes = tmp_path / "notes.txt"
    notes.write_text("my\nnotes\n")
    assert apportion("batch", tiny_path, source, notes).status == 1
    assert notes.read_text() == "my\nnotes\n"
    assert apportion("batch", tiny_path, source, tmp_path / "no" / "out.jsonl").status == 1


def test_the_options_of_other_verbs_hold_here_too(apportion, tiny_path, source: Path, tmp_path: Path) -> None:
    flags = ["--ctx", 128, "--scheduler", "fcfs", "--speculate", "prompt_lookup", "--threads", 1]
    plain, other = tmp_path / "plain.jsonl", tmp_path / "other.jsonl"
    apportion("batch", tiny_path, source, plain)
    assert apportion("batch", tiny_path, source, other, *flags).status == 0

    def choices(path: Path) -> dict:
        return {line["custom_id"]: line["response"]["body"].get("choices") for line in lines(path)}

    assert choices(plain) == choices(other)


def test_guesses_change_no_answer(apportion, tiny_path) -> None:
    def text(*flags: str) -> str:
        return apportion("run", tiny_path, "a b a b a b", "-n", 40, "-t", 0, "--json", *flags).object["text"]

    assert text() == text("--speculate", "prompt-lookup")
    assert apportion("run", tiny_path, "x", "--speculate", "oracle").status == 1
    assert apportion("run", tiny_path, "x", "--speculate", "draft").status != 0
