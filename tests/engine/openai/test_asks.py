"""Bodies of requests: what they mean, and what is refused."""

from __future__ import annotations

import pytest

from apportion.core.errors import ApportionError, LimitExceeded, Unsupported, UsageError
from apportion.engine import SamplingParams
from apportion.engine.openai import read_ask

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HELLO = [{"role": "user", "content": "Hello"}]


def chat(**fields: object) -> SamplingParams:
    return read_ask(CHAT, {"model": "m", "messages": HELLO, **fields}).params


def test_a_chat_and_a_text_become_asks() -> None:
    ask = read_ask(CHAT, {"model": "m", "messages": HELLO, "n": 2})
    assert (ask.chat, ask.prompts, ask.num_choices, ask.endpoint) == (HELLO, (), 2, CHAT)
    for prompt, several in (
        ("x", ["x"]),
        ([1, 2], [[1, 2]]),
        (["x", "y"], ["x", "y"]),
        ([[1], [2]], [[1], [2]]),
    ):
        assert list(read_ask(TEXT, {"prompt": prompt}).prompts) == several


def test_sampling_fields_keep_their_meaning() -> None:
    params = chat(
        temperature=0.5,
        top_p=0.9,
        seed=3,
        stop=["a", "b"],
        presence_penalty=1,
        frequency_penalty=-1,
        logit_bias={"50": -100},
        max_completion_tokens=7,
        top_k=5,
        min_p=0.1,
        repetition_penalty=1.1,
    )
    assert (params.temperature, params.top_p, params.seed, params.stop) == (0.5, 0.9, 3, ("a", "b"))
    assert (params.logit_bias, params.max_tokens, params.top_k) == ({50: -100.0}, 7, 5)
    assert chat(max_tokens=9).max_tokens == 9
    assert chat().max_tokens is None
    assert chat(stop="x").stop == ("x",)
    assert read_ask(TEXT, {"prompt": "x"}).params.max_tokens == 16


def test_log_probabilities_are_asked_for_as_each_endpoint_does() -> None:
    assert chat().logprobs is None
    assert chat(logprobs=True).logprobs == 0
    assert chat(logprobs=True, top_logprobs=4).logprobs == 4
    assert chat(logprobs=False).logprobs is None
    assert read_ask(TEXT, {"prompt": "x", "logprobs": 2}).params.logprobs == 2


def test_the_form_of_an_answer() -> None:
    assert chat(response_format={"type": "text"}) == chat()
    assert chat(response_format={"type": "json_object"}).json_object
    wrapped = {
        "type": "json_schema",
        "json_schema": {"name": "n", "strict": True, "schema": {"type": "integer"}},
    }
    assert chat(response_format=wrapped).json_schema == '{"type":"integer"}'
    assert chat(regex="a+").regex == "a+"


def test_forms_under_the_names_of_another_server() -> None:
    assert chat(guided_regex="a+") == chat(regex="a+")
    assert chat(guided_grammar='start: "a"') == chat(grammar='start: "a"')
    assert chat(guided_choice=["yes", 'n"o\n']) == chat(choice=["yes", 'n"o\n'])
    assert chat(guided_json={"type": "integer"}).json_schema == '{"type":"integer"}'


def test_null_is_absent_and_what_says_nothing_is_allowed() -> None:
    assert chat(temperature=None, stop=None, tools=None, stream=False, user="me", metadata={"a": 1}) == chat()


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"temperatures": 1}, UsageError),
        ({"temperature": "hot"}, UsageError),
        ({"temperature": -1}, UsageError),
        ({"max_tokens": 0}, UsageError),
        ({"max_tokens": 1.5}, UsageError),
        ({"n": 0}, UsageError),
        ({"n": True}, UsageError),
        ({"n": 1000}, UsageError),
        ({"stop": [""]}, UsageError),
        ({"stop": 3}, UsageError),
        ({"logit_bias": {"x": 1}}, UsageError),
        ({"logit_bias": [1]}, UsageError),
        ({"logprobs": 3}, UsageError),
        ({"logprobs": True, "top_logprobs": 1000}, LimitExceeded),
        ({"response_format": {"type": "xml"}}, UsageError),
        ({"response_format": {"type": "json_schema"}}, UsageError),
        ({"response_format": "json_object"}, UsageError),
        ({"response_format": {"type": "json_object"}, "regex": "a"}, UsageError),
        ({"guided_regex": "a", "regex": "a"}, UsageError),
        ({"guided_json": {}, "guided_regex": "a"}, UsageError),
        ({"guided_json": {}, "response_format": {"type": "json_object"}}, UsageError),
        ({"guided_choice": []}, UsageError),
        ({"messages": []}, UsageError),
        ({"messages": "Hello"}, UsageError),
        ({"stream": True}, Unsupported),
        ({"stream": 0}, Unsupported),
        ({"tools": [{"type": "function"}]}, UsageError),
        ({"tools": [{"type": "web_search"}]}, Unsupported),
        ({"echo": True}, Unsupported),
    ],
)
def test_what_is_wrong_is_refused(fields: dict, error: type[ApportionError]) -> None:
    with pytest.raises(error):
        chat(**fields)


@pytest.mark.parametrize("prompt", [None, [], 3, {}, [None], ["x", 3], [["x"]], "x" and [[1], "x", None]])
def test_prompts_that_are_none_are_refused(prompt: object) -> None:
    with pytest.raises(UsageError):
        read_ask(TEXT, {"prompt": prompt})


@pytest.mark.parametrize(
    ("url", "body"), [("/v1/chat", {}), ("", {}), (CHAT, None), (CHAT, []), (3, {}), (None, {})]
)
def test_what_is_no_request_is_refused(url: object, body: object) -> None:
    with pytest.raises(UsageError):
        read_ask(url, body)
