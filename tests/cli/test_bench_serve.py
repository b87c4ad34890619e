"""`apportion bench-serve` against a server that answers as a script says."""

from __future__ import annotations

import json

import pytest
from tests.bench.load.scripted_server import Script, ScriptedServer


@pytest.fixture
def scripted():
    with ScriptedServer(lambda _: Script(ttft_s=0.01, gap_s=0.001)) as server:
        yield server


def test_a_line_for_each_number_of_clients(apportion, scripted) -> None:
    outcome = apportion("bench-serve", scripted.url, "--clients", "1,2", "--output", 4, "--seed", 5)
    assert outcome.status == 0, outcome.err
    assert "1 client " in outcome.out
    assert "2 clients" in outcome.out
    assert "8/8" in outcome.out
    assert "seed 5" in outcome.out


def test_json_has_every_figure_and_where_it_comes_from(apportion, scripted) -> None:
    words = ("--rate", 200, "--burst", 2, "--requests", 6, "--output", 4, "--prompt", 40, "--seed", 1)
    found = apportion("bench-serve", scripted.url + "/v1", *words, "--json").object
    assert (found["model"], found["endpoint"], found["seed"]) == ("scripted", "chat", 1)
    (line,) = found["results"]
    assert line["load"] == "200/s, 2 at once"
    assert (line["requests"], line["answered"], line["failed"]) == (6, 6, {})
    assert line["output_tokens"] == 24
    assert line["prompt_tokens"] == pytest.approx(6 * 40, rel=0.1)
    assert {"p50", "p90", "p95", "p99", "mean", "max", "n"} == set(line["ttft_s"])
    assert {"tpot_s", "gap_s", "e2e_s", "goodput_per_s", "late_s", "generator_us_per_token"} <= set(line)
    assert "commit" in found["provenance"]


def test_prompts_of_a_seed_are_the_same_and_of_each_line_others(apportion, scripted) -> None:
    def asked(*words: object) -> list[str]:
        scripted.told.clear()
        apportion("bench-serve", scripted.url, "--output", 2, "--prompt", 30, *words)
        return sorted(one.body["messages"][0]["content"] for one in scripted.told)

    first = asked("--seed", 3, "--clients", "1,1")
    assert len(set(first)) == len(first) == 10
    assert asked("--seed", 3, "--clients", "1,1") == first
    assert set(asked("--seed", 4, "--clients", "1,1")).isdisjoint(first)


def test_requests_come_as_in_a_trace(apportion, scripted, tmp_path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,80,6\n2023-11-16 18:15:48.6805900,40,2\n"
    )
    words = ("--trace", path, "--interval", 0.05, "--length", 0.5, "--warmup", 0, "--json")
    (line,) = apportion("bench-serve", scripted.url, *words).object["results"]
    assert (line["load"], line["answered"], line["output_tokens"]) == ("trace.csv", 2, 4)
    first, second = scripted.told
    assert second.came_s - first.came_s == pytest.approx(0.1, abs=0.08)


def test_of_a_trace_only_some_are_sent(apportion, scripted, tmp_path) -> None:
    path = tmp_path / "trace.csv"
    rows = [f"2023-11-16 18:15:4{n}.0000000,40,{n + 1}\n" for n in range(5)]
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(rows))
    words = ("--trace", path, "--interval", 0.01, "--every", 2, "--warmup", 0, "--json")
    (line,) = apportion("bench-serve", scripted.url, *words).object["results"]
    assert (line["answered"], line["output_tokens"]) == (3, 1 + 3 + 5)


def test_the_key_comes_from_the_environment_and_is_not_shown(apportion, scripted, monkeypatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    outcome = apportion("bench-serve", scripted.url, "--api-key-env", "MY_KEY", "--output", 2, "--json")
    assert "Bearer sk-secret" in scripted.told[0].headers
    assert "sk-secret" not in outcome.out + outcome.err


def test_plain_completions_and_answers_that_end_early_can_be_asked_for(apportion, scripted) -> None:
    apportion("bench-serve", scripted.url, "--endpoint", "completions", "--end-early", "--output", 2)
    body = scripted.told[0].body
    assert "prompt" in body
    assert "ignore_eos" not in body


def test_failures_are_said_by_kind(apportion) -> None:
    with ScriptedServer(lambda n: Script(status=503) if n else Script()) as server:
        outcome = apportion("bench-serve", server.url, "--output", 2)
    assert "1 client: without an answer: 4 HTTP 503" in outcome.out
    assert outcome.status == 0


@pytest.mark.parametrize(
    "words",
    [
        ("--rate", 1, "--clients", 2),
        ("--burst", 2),
        ("--length", 0.5),
        ("--shared-prefix", 300),
        ("--text", "none.txt"),
    ],
)
def test_options_that_contradict_each_other_are_refused(apportion, words) -> None:
    assert apportion("bench-serve", "http://127.0.0.1:9", *words).status == 2


def test_nobody_there_is_an_error_and_no_traceback(apportion) -> None:
    outcome = apportion("bench-serve", "http://127.0.0.1:9", "--json")
    assert outcome.status == 1
    assert json.loads(outcome.out or outcome.err)
