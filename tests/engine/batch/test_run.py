"""Whole batches: every line answered once, with the answer that it has alone, through kills and failures."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.engine.batch.conftest import CTX, Host, answers, request, said
from tests.engine.scripted import EOG
from tests.executed import ROOT

from apportion.core.errors import DiskFault, UsageError
from apportion.engine.batch import run_batch

MESSAGE = {"role": "user", "content": "x"}
PROMPTS = {f"p{i}": [i % 7, 5, i % 11, *range(i % 9)] for i in range(30)}


def texts(path: Path) -> dict[str, str]:
    return {name: line["response"]["body"]["choices"][0]["text"] for name, line in answers(path).items()}


def test_every_line_has_the_answer_that_it_has_alone(host: Host, write, tmp_path: Path) -> None:
    source = write(*(request(name, prompt) for name, prompt in PROMPTS.items()))
    report = run_batch(host, source, tmp_path / "out.jsonl")
    assert texts(tmp_path / "out.jsonl") == {name: said(prompt) for name, prompt in PROMPTS.items()}
    assert (report.lines, report.answered, report.failed, report.skipped) == (30, 30, 0, 0)
    assert report.output_tokens == 150
    assert report.prompt_tokens == sum(map(len, PROMPTS.values()))
    assert host.is_empty


def test_an_answer_is_in_openais_form(host: Host, write, tmp_path: Path) -> None:
    run_batch(host, write(request("one", [1, 2, 3], 4)), tmp_path / "out.jsonl")
    line = answers(tmp_path / "out.jsonl")["one"]
    assert set(line) == {"id", "custom_id", "response", "error"}
    assert line["error"] is None
    assert line["response"]["status_code"] == 200
    body = line["response"]["body"]
    assert (body["object"], body["model"]) == ("text_completion", "scripted")
    assert body["choices"] == [
        {"index": 0, "text": said([1, 2, 3], 4), "logprobs": None, "finish_reason": "length"}
    ]
    usage = body["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (3, 4, 7)


def test_what_prompts_share_is_computed_once(write, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    heads = [rng.integers(0, EOG, 128).tolist() for _ in range(4)]
    prompts = {f"r{i}": [*heads[i % 4], i, i + 1, i + 2] for i in range(40)}
    names = list(prompts)
    random.Random(2).shuffle(names)
    source = write(*(request(name, prompts[name], 3) for name in names))
    host = Host(num_blocks=2 * 128 // 4)  # one and a half of the prefixes, and some answers
    report = run_batch(host, source, tmp_path / "out.jsonl")
    assert texts(tmp_path / "out.jsonl") == {name: said(prompt, 3) for name, prompt in prompts.items()}
    assert host.prompt_tokens_computed == 4 * 128 + 40 * 3
    assert report.cached_tokens == 36 * 128


def test_bad_lines_are_answered_by_their_errors_and_stop_nothing(host: Host, write, tmp_path: Path) -> None:
    good = request("good", [1, 2])
    source = write(
        "{broken",
        "",
        "[1, 2]",
        json.dumps({"method": "POST", "url": "/v1/completions", "body": {"prompt": "x"}}),
        request("url", [1]) | {"url": "/v1/images"},
        request("method", [1]) | {"method": "GET"},
        request("field", [1], temperatures=3),
        request("range", [1], top_p=3),
        request("id", [EOG + 9]),
        request("empty", []),
        request("long", [1] * 400, CTX),
        request("stream", [1], stream=True),
        {
            "custom_id": "chat",
            "url": "/v1/chat/completions",
            "body": {"messages": [{"role": "user", "content": "x"}]},
        },
        {"custom_id": "none", "url": "/v1/completions"},
        request("regex", [1], regex="("),
        good,
        good,
        request("good", [3]),
    )
    report = run_batch(host, source, tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert (report.lines, report.answered, report.failed) == (17, 1, 16)
    assert len({line["id"] for line in lines}) == len(lines) == 17
    failed = [line for line in lines if line["error"] is not None]
    assert len(failed) == 16
    for line in failed:
        assert line["response"]["status_code"] in (400, 500)
        assert line["error"]["code"]
        assert line["error"]["message"] == line["response"]["body"]["error"]["message"]
    by_name = {line["custom_id"]: line["error"] for line in failed}
    assert "did you mean 'temperature'" in by_name["field"]["message"]
    assert by_name["long"]["code"] == "context_overflow"
    assert by_name["chat"]["code"] == "unsupported"
    assert [line["custom_id"] for line in failed].count(None) == 3
    assert run_batch(host, source, tmp_path / "out.jsonl").skipped == 17


def test_a_second_run_repeats_nothing(host: Host, write, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    run_batch(host, write(request("a", [1]), request("b", [2])), out)
    before, steps = out.read_text(), host.engine.counters.steps
    report = run_batch(host, write(request("a", [1]), request("b", [2])), out)
    assert (report.skipped, report.answered, out.read_text()) == (2, 0, before)
    assert host.engine.counters.steps == steps
    report = run_batch(host, write(request("a", [1]), request("c", [3]), request("b", [2])), out)
    assert (report.skipped, report.answered) == (2, 1)
    assert set(answers(out)) == {"a", "b", "c"}


def test_an_interrupted_run_is_gone_on_with(host: Host, write, tmp_path: Path) -> None:
    source, out = write(*(request(name, prompt) for name, prompt in PROMPTS.items())), tmp_path / "out.jsonl"

    def interrupt(report) -> None:
        if report.answered >= 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_batch(host, source, out, concurrency=3, on_progress=interrupt)
    host.engine.step()
    assert host.is_empty
    done = len(answers(out))
    assert 7 <= done < 30
    report = run_batch(host, source, out)
    assert (report.skipped, report.answered) == (done, 30 - done)
    assert texts(out) == {name: said(prompt) for name, prompt in PROMPTS.items()}


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from tests.engine.batch.conftest import Host
from apportion.engine.batch import run_batch
def kill(report):
    if report.answered >= int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
run_batch(Host(1000), sys.argv[2], sys.argv[3], concurrency=4, on_progress=kill)
"""


def test_a_killed_run_is_gone_on_with_and_nothing_stands_twice(write, tmp_path: Path) -> None:
    source, out = write(*(request(name, prompt) for name, prompt in PROMPTS.items())), tmp_path / "out.jsonl"
    for most in (3, 9):
        words = [sys.executable, "-c", KILLED, str(ROOT), str(source), str(out), str(most)]
        assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    with out.open("ab") as file:
        file.write(b'{"id": "batch_req_0", "custom_id": "half a li')
    run_batch(Host(1000), source, out)
    assert texts(out) == {name: said(prompt) for name, prompt in PROMPTS.items()}


def test_several_answers_and_prompts_of_one_line_come_together(host: Host, write, tmp_path: Path) -> None:
    run_batch(host, write(request("n", [1, 2], n=3), request("many", [[1], [2, 3]])), tmp_path / "out.jsonl")
    found = answers(tmp_path / "out.jsonl")
    choices = found["n"]["response"]["body"]["choices"]
    assert [(choice["index"], choice["text"]) for choice in choices] == [(i, said([1, 2])) for i in range(3)]
    assert found["n"]["response"]["body"]["usage"]["prompt_tokens"] == 2
    many = found["many"]["response"]["body"]
    assert [choice["text"] for choice in many["choices"]] == [said([1]), said([2, 3])]
    assert many["usage"]["prompt_tokens"] == 3


def test_a_step_that_fails_is_tried_again(host: Host, write, tmp_path: Path) -> None:
    host.engine._executor.error = DiskFault("a read failed")
    run_batch(host, write(request("a", [1, 2])), tmp_path / "out.jsonl")
    assert texts(tmp_path / "out.jsonl") == {"a": said([1, 2])}


def test_answers_of_two_models_do_not_mix(host: Host, write, tmp_path: Path) -> None:
    source = write(request("a", [1]))
    run_batch(host, source, tmp_path / "out.jsonl")
    other = Host(1000)
    other.name = "another"
    with pytest.raises(UsageError, match="another model"):
        run_batch(other, source, tmp_path / "out.jsonl")


def test_no_more_run_at_once_than_was_asked_for(host: Host, write, tmp_path: Path) -> None:
    source = write(*(request(name, prompt) for name, prompt in PROMPTS.items()))
    run_batch(host, source, tmp_path / "out.jsonl", concurrency=5)
    assert max(len(run) for run in host.engine._executor.runs) == 5


def test_an_empty_batch_is_done_at_once(host: Host, write, tmp_path: Path) -> None:
    assert run_batch(host, write(), tmp_path / "out.jsonl").lines == 0
    assert (tmp_path / "out.jsonl").read_text() == ""
