"""A prompt that takes long tells how far it is, and no client minds."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator
from typing import Any

import httpx
import pytest
from tests.serve.running import Running
from tests.serve.streaming import streaming
from tests.serve.test_leaving import holdings, leave, sent, until

from apportion.engine.residency.experts import ExpertSlots
from apportion.kernels.ops import Ints

PROMPT = "a prompt that a slow disk makes long " * 4
COMMENT = re.compile(r": prefill (\d+)/(\d+)")
MESSAGES = [{"role": "user", "content": PROMPT}]


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Each of three layers makes a prompt wait for most of a second."""
    acquire = ExpertSlots.acquire

    def waiting(self: ExpertSlots, ids: Ints, following: Any = None) -> Iterator[Collection[int]]:
        if len(ids) > 1:
            time.sleep(0.8)
        return acquire(self, ids, following)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExpertSlots, "acquire", waiting)
        with streaming(tmp_path_factory.mktemp("models")) as server:
            yield server


def test_comments_tell_how_many_tokens_of_the_prompt_were_read(slow: Running) -> None:
    body = {"prompt": PROMPT + "first", "max_tokens": 2, "stream": True}
    with httpx.stream("POST", f"{slow.url}/v1/completions", json=body, timeout=30) as answer:
        lines = [line for line in answer.iter_lines() if line]
    told = [COMMENT.fullmatch(line) for line in lines if line.startswith(":")]
    assert told
    assert all(told)
    done = [int(match[1]) for match in told if match]
    total = {int(match[2]) for match in told if match}
    assert done == sorted(done)
    assert len(total) == 1
    assert 0 < done[0] <= done[-1] < total.pop()
    assert lines[-1] == "data: [DONE]"


def test_the_status_and_the_metrics_tell_it_too(slow: Running) -> None:
    body = {"prompt": PROMPT + "second", "max_tokens": 2, "stream": True, "n": 2}
    with httpx.stream("POST", f"{slow.url}/v1/completions", json=body, timeout=30) as answer:
        lines = answer.iter_lines()
        next(lines)  # the first comment
        (request,) = httpx.get(f"{slow.url}/v1/apportion/status").json()["requests"]
        page = httpx.get(f"{slow.url}/metrics").text
        assert sum(1 for line in lines if line) > 2
    assert request["state"] == "prefill"
    assert 0 < request["computed_tokens"] < request["prompt_tokens"] < 200  # that both choices share
    found = re.search(r'^apportion_prefill_progress_ratio\{model="tiny"\} (\S+)$', page, re.MULTILINE)
    assert found is not None
    assert 0 < float(found[1]) < 1


@pytest.mark.parametrize("way", ["close", "reset"])
@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_while_weights_are_waited_for_is_dropped_with_all_it_held(
    slow: Running, stream: bool, way: str
) -> None:
    llm = slow.site.models.loaded()["tiny"]
    until(lambda: holdings(llm)[:3] == (0, 0, 0))
    before = holdings(llm)
    body = {"prompt": f"{PROMPT}{way} {stream}", "max_tokens": 40, "stream": stream}
    connection = sent(slow, "/v1/completions", body)
    until(lambda: llm.engine.num_running == 1)
    [answer] = slow.site.pump.answers()
    leave(connection, way)
    until(lambda: holdings(llm) == before)
    assert len(answer.requests[0].sequence.output) == 0, "its prompt was never read to the end"
    until(lambda: not slow.site.pump.answers())


def test_the_openai_client_reads_on(slow: Running) -> None:
    openai = pytest.importorskip("openai", reason="needs the package openai")
    client = openai.OpenAI(base_url=f"{slow.url}/v1", api_key="none")
    chunks = list(client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=2, stream=True))
    assert chunks[-1].choices[0].finish_reason


def test_the_anthropic_client_reads_on(slow: Running) -> None:
    anthropic = pytest.importorskip("anthropic", reason="needs the package anthropic")
    client = anthropic.Anthropic(base_url=slow.url, api_key="none")
    events = list(client.messages.create(model="tiny", messages=MESSAGES, max_tokens=2, stream=True))
    assert events[-1].type == "message_stop"
