"""Every limit of what one request may ask for: at its most, one more, and ten times as much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from tests.serve.running import Running, config_for, running

from apportion.core.errors import UsageError
from apportion.core.units import GiB, KiB, MiB
from apportion.serve.limits import Limits, limited, read_limits
from apportion.serve.schemas.chat import ChatRequest
from apportion.serve.schemas.completions import CompletionRequest
from apportion.serve.schemas.embeddings import EmbeddingsRequest

SMALL = Limits(
    num_messages=6,
    num_tools=4,
    num_choices=3,
    num_prompts=3,
    num_inputs=3,
    num_stop=4,
    stop_nbytes=20,
    top_logprobs=5,
    logit_bias=6,
    schema_nbytes=400,
    schema_depth=6,
    regex_nbytes=40,
    model_name_nbytes=24,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(config_for(tmp_path_factory.mktemp("models"), limits=SMALL)) as one:
        yield one


def nested(depth: int) -> dict[str, Any]:
    """A schema so many objects deep."""
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth - 1):
        schema = {"items": schema}
    return schema


def tool(number: int) -> dict[str, Any]:
    return {"type": "function", "function": {"name": f"t{number}"}}


def padded(size: int) -> dict[str, Any]:
    """A schema that takes so many bytes."""
    return {"type": "integer", "title": "x" * (size - 29)}


def form(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "form", "schema": schema}}


CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
ASKS: dict[str, tuple[str, Callable[[int], dict[str, Any]]]] = {
    "num_messages": (CHAT, lambda n: {"messages": [{"role": "user", "content": "a"}] * n}),
    "num_choices": (COMPLETIONS, lambda n: {"n": n}),
    "num_prompts": (COMPLETIONS, lambda n: {"prompt": ["a"] * n}),
    "num_inputs": (EMBEDDINGS, lambda n: {"input": ["a"] * n}),
    "num_stop": (COMPLETIONS, lambda n: {"stop": [f"s{i}" for i in range(n)]}),
    "stop_nbytes": (COMPLETIONS, lambda n: {"stop": "x" * n}),
    "top_logprobs": (COMPLETIONS, lambda n: {"logprobs": n}),
    "logit_bias": (COMPLETIONS, lambda n: {"logit_bias": {str(i): 1 for i in range(n)}}),
    "schema_depth": (CHAT, lambda n: {"response_format": form(nested(n))}),
    "schema_nbytes": (CHAT, lambda n: {"response_format": form(padded(n))}),
    "regex_nbytes": (COMPLETIONS, lambda n: {"regex": "a" * n}),
}


@pytest.mark.parametrize("name", ASKS)
@pytest.mark.parametrize("times", ["at most", "one more", "ten times"])
def test_what_one_request_may_ask_for(name: str, times: str, server: Running) -> None:
    path, body_of = ASKS[name]
    most = getattr(SMALL, name)
    count = {"at most": most, "one more": most + 1, "ten times": 10 * most}[times]
    base: dict[str, Any] = {"max_tokens": 2}
    if path == CHAT:
        base["messages"] = [{"role": "user", "content": "a"}]
    elif path == COMPLETIONS:
        base["prompt"] = "a"
    else:
        base = {}
    said = httpx.post(server.url + path, json=base | body_of(count), timeout=30)
    assert said.status_code == (200 if times == "at most" else 400), said.text
    if said.status_code == 400:
        assert str(most) in said.text, "who is refused is told the limit"


@pytest.mark.parametrize("times", [1, 10])
def test_the_name_of_a_model_has_a_length(times: int, server: Running) -> None:
    name = "m" * (times * SMALL.model_name_nbytes + 1)
    said = httpx.post(f"{server.url}/v1/completions", json={"model": name, "prompt": "a"})
    assert said.status_code in (400, 404)
    assert name not in said.text


# --- the limits themselves ---


@pytest.mark.parametrize("name", [one.name for one in fields(Limits)])
def test_each_limit_can_be_set_and_none_to_nothing(name: str) -> None:
    assert getattr(limited(Limits(), {name: "7"}), name) == 7
    for wrong in ("0", "-1", "many", "", "nan", "1e400", True, None, [1]):
        with pytest.raises(UsageError, match=name):
            limited(Limits(), {name: wrong})


def test_sizes_are_written_as_everywhere() -> None:
    assert limited(Limits(), {"body_nbytes": "8MiB"}).body_nbytes == 8 * 1024**2


def test_a_limit_that_is_none_is_an_error_with_the_one_that_was_meant() -> None:
    with pytest.raises(UsageError, match="num_messages"):
        limited(Limits(), {"nummessages": 3})


@pytest.mark.parametrize("text", ["queue = ", "[queue", "queue = 1\nqueue = 2", "\x00", "a" * 100_000])
def test_a_file_of_limits_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text(text)
    with pytest.raises(UsageError):
        limited(Limits(), read_limits(tmp_path / "limits.toml"))


def test_a_file_sets_limits(tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text('queue = 3\nbody_nbytes = "1MiB"\nreceive_s = 2.5\n')
    limits = limited(Limits(), read_limits(tmp_path / "limits.toml"))
    assert (limits.queue, limits.body_nbytes, limits.receive_s) == (3, 1024**2, 2.5)


# --- within a budget ---


def test_bodies_are_bounded_by_the_budget_unless_they_were_set() -> None:
    assert Limits().within(8 * GiB).body_nbytes == 8 * MiB
    assert Limits().within(GiB).bodies_nbytes == 4 * MiB
    assert Limits().within(MiB).body_nbytes == 512 * KiB, "an ordinary conversation fits always"
    assert Limits().within(10**15) == Limits()
    assert Limits(body_nbytes=20 * MiB).within(GiB).body_nbytes == 20 * MiB


@pytest.mark.parametrize("item", [{}, [{}], None, 1.5])
def test_of_a_list_of_wrong_things_only_the_first_is_told(item: Any) -> None:
    """What is said of each takes many times the memory of the body."""
    for body in (CompletionRequest, EmbeddingsRequest, ChatRequest):
        wrong = {name: [item] * 10_000 for name in ("prompt", "input", "messages", "stop", "tools")}
        with pytest.raises(ValidationError) as caught:
            body.model_validate(wrong)
        assert caught.value.error_count() < 100
