"""Bodies that a server gets: more is welcome than in a batch, and what is ignored is said."""

from __future__ import annotations

from typing import Any

import pytest

from apportion.core.errors import ApportionError, LimitExceeded, Unsupported, UsageError
from apportion.engine.openai import FIELDS, Ask, AskLimits, read_ask, read_served

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def chat(**fields: Any) -> Ask:
    return read_served(CHAT, {"messages": HELLO, **fields}, AskLimits())


def text(**fields: Any) -> Ask:
    return read_served(TEXT, {"prompt": "a", **fields}, AskLimits())


def test_what_nobody_knows_is_ignored_with_a_warning() -> None:
    ask = chat(frobnicate=1, unheard=None, stream_options={"include_usage": True, "more": 1})
    assert ask.include_usage
    assert ask.warnings == (
        "unknown field 'frobnicate' was ignored",
        "unknown option 'more' of stream_options was ignored",
    )
    with pytest.raises(UsageError):
        read_ask(CHAT, {"messages": HELLO, "frobnicate": 1})


def test_warnings_are_fit_for_a_header() -> None:
    (warning,) = chat(**{"x\r\nSet-Cookie: a=b\u202e" * 9: 1}).warnings
    assert warning.isascii()
    assert warning.isprintable()
    assert len(warning) < 100


def test_a_field_of_the_other_endpoint_is_unknown_here() -> None:
    assert chat(echo=True).warnings
    assert text(tools=[TOOL]).warnings


def test_what_clients_repeat_of_an_answer_is_no_news() -> None:
    answer = {"role": "assistant", "content": "Hi", "refusal": None, "annotations": [], "audio": None}
    ask = read_served(CHAT, {"messages": [*HELLO, answer, {**HELLO[0], "odd": 1}]}, AskLimits())
    assert ask.chat is not None
    assert ask.chat[1] == {"role": "assistant", "content": "Hi"}
    assert ask.warnings == ("unknown field 'odd' of a message was ignored",)


def test_a_refusal_is_what_the_assistant_said() -> None:
    said = {"role": "assistant", "content": None, "refusal": "No."}
    ask = read_served(CHAT, {"messages": [*HELLO, said]}, AskLimits())
    assert ask.chat is not None
    assert ask.chat[1]["content"] == "No."


def test_a_choice_is_a_grammar() -> None:
    assert chat(choice=["yes", 'n"o']).params.grammar == 'start: "yes" | "n\\"o"'
    with pytest.raises(UsageError):
        chat(choice=["a"], grammar='start: "a"')


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("auto", None),
        ("required", None),
        ({"type": "function", "function": {"name": "f"}}, ("f",)),
        ({"type": "function", "name": "f"}, ("f",)),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TOOL]}}, ("f",)),
    ],
)
def test_which_tools_may_be_called(given: Any, names: Any) -> None:
    tools = chat(tools=[TOOL], tool_choice=given).tools
    assert tools.names == names
    assert tools.choice == ("auto" if given == "auto" else "required")


def test_without_tools_there_is_nothing_to_choose() -> None:
    assert not chat(tool_choice="auto").tools
    assert not chat(tools=[TOOL], tool_choice="none").tools
    for choice in ("required", {"type": "function", "function": {"name": "g"}}):
        with pytest.raises(UsageError):
            chat(tool_choice=choice)


def test_efforts_are_variables_of_templates() -> None:
    assert chat(reasoning_effort="none").variables == {"enable_thinking": False, "thinking": False}
    assert chat(reasoning_effort="high").variables["reasoning_effort"] == "high"
    assert (
        chat(chat_template_kwargs={"enable_thinking": False}, reasoning_effort="low").variables[
            "enable_thinking"
        ]
        is False
    ), "who says it in the template's words knows best"


def test_a_template_is_told_nothing_but_what_templates_read() -> None:
    with pytest.raises(UsageError) as caught:
        chat(chat_template_kwargs={"messages": []})
    assert caught.value.param == "chat_template_kwargs"


def test_a_prompt_that_comes_back_brings_its_log_probabilities() -> None:
    ask = text(echo=True, logprobs=2, max_tokens=0)
    assert ask.echo
    assert (ask.params.prompt_logprobs, ask.params.max_tokens) == (2, 0)
    assert text(echo=True).params.prompt_logprobs is None


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if field.only == ()])
def test_what_cannot_be_had_is_refused_and_not_ignored(name: str) -> None:
    with pytest.raises(Unsupported) as caught:
        chat(**{name: {"a": 1}})
    assert caught.value.param == name


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "user"}, 5]}, "messages.1"),
        ({"messages": [{"content": [{"type": "image_url"}], "role": "user"}]}, "messages.0.content.0"),
        ({"tools": [TOOL, {"type": "custom"}]}, "tools.1"),
        ({"temperature": -1}, "temperature"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": 5}}}, "response_format"),
        ({"stop": ["a", ""]}, "stop"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ],
)
def test_an_error_names_the_field_that_is_to_blame(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApportionError) as caught:
        chat(**fields)
    assert caught.value.param == param


def test_limits_are_those_of_the_server() -> None:
    with pytest.raises(LimitExceeded):
        read_served(CHAT, {"messages": HELLO * 3}, AskLimits(num_messages=2))
