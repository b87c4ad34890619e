from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.engine.conftest import EOG, TEMPLATE, VOCAB, MakeLLM, MarkedTokenizer, NextToken

from apportion.core.errors import LimitExceeded, UsageError
from apportion.engine import LLM, SamplingParams
from apportion.engine.chat_turn import ChatTurn
from apportion.engine.grammar.check import Check
from apportion.text.answer_parts import CallArguments, CallBegins, Mismatch, Part, Reasoning, Text
from apportion.text.template_process import TemplateProcess
from apportion.text.tool_calls import TOOL_FORMATS
from apportion.text.tools import Tool

HI = [{"role": "user", "content": "Hi"}]
CITIES = {"type": "string", "enum": ["Oslo", "Bern"]}
WEATHER = Tool(
    "weather",
    parameters={
        "type": "object",
        "properties": {"city": CITIES},
        "required": ["city"],
        "additionalProperties": False,
    },
)
TOOLS = (WEATHER, Tool("time"))
# A template that knows a format, as far as the format can tell.
KNOWS = {
    "deepseek": "{# tools <\uff5ctool\u2581calls\u2581begin\uff5c> ```json #}",
    "deepseek_v31": "{# tools <\uff5ctool\u2581calls\u2581begin\uff5c> #}",
    "function_tags": "{# tools <function= #}",
    "generic_json": "",
    "harmony": "{# tools <|channel|> <|message|> #}",
    "hermes": "{# tools <tool_call> #}",
    "llama3": "{# tools <|python_tag|> #}",
    "mistral": "{# tools [TOOL_CALLS] #}",
    "mistral_args": "{# tools [TOOL_CALLS] [ARGS] #}",
    "qwen3_coder": "{# tools <tool_call> <function= <parameter= #}",
}


# What it says before it says no.
PRELUDE = {"harmony": "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>"}


def answered(llm: LLM, turn: ChatTurn, params: SamplingParams | None = None) -> tuple[str, list[Part], str]:
    """The text of an answer, its parts, and why it ended."""
    params = params or SamplingParams(max_tokens=500)
    request = llm.request(turn.ids, turn.held(params), continues=False, frame=turn.frame)
    stream, parts, found = llm.submit(request), turn.parts(), list[Part]()
    for delta in stream:
        found += parts.feed(delta.text)
    found += parts.finish()
    return stream.completion.text, found, stream.completion.finish_reason


def calls_in(parts: list[Part]) -> list[tuple[str, Any]]:
    """Names, and arguments as values. Nothing else may be there but reasoning."""
    assert not [part for part in parts if isinstance(part, Mismatch | Text)], parts
    names = [part.name for part in parts if isinstance(part, CallBegins)]
    texts = [""] * len(names)
    for part in parts:
        if isinstance(part, CallArguments):
            texts[part.index] += part.text
    return list(zip(names, map(json.loads, texts), strict=True))


def text_of(parts: list[Part], kind: type[Text] | type[Reasoning] = Text) -> str:
    return "".join(part.text for part in parts if isinstance(part, kind))


@pytest.fixture(autouse=True, scope="module")
def children() -> Iterator[None]:
    """All models of these tests have the same child processes: starting them takes longer than the tests."""
    check, process = Check(), TemplateProcess()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("apportion.engine.grammar.grammars.Check", lambda: check)
        patch.setattr("apportion.text.chat_template.TemplateProcess", lambda: process)
        yield
    check.close()
    process.close()


def script(text: str, tokenizer: MarkedTokenizer, num_prompt: list[int]) -> NextToken:
    """Answers whatever prompt: its length comes later."""
    ids = tokenizer.encode(text, parse_special=True)

    def next_token(context: list[int]) -> int:
        place = len(context) - num_prompt[0]
        return ids[place] if place < len(ids) else EOG

    return next_token


def make(
    make_llm: MakeLLM, text: str, template: str, marks: tuple[str, ...] = (), **asked: Any
) -> tuple[LLM, ChatTurn]:
    tokenizer, num_prompt = MarkedTokenizer(*marks), [0]
    llm = make_llm(script(text, tokenizer, num_prompt), template=template, tokenizer=tokenizer)
    turn = llm.chat_turn(HI, **asked)
    num_prompt[0] = len(turn.ids)
    return llm, turn


@pytest.mark.parametrize("as_tokens", [False, True], ids=["as text", "as tokens"])
@pytest.mark.parametrize("name", TOOL_FORMATS)
def test_a_model_that_would_not_call_is_held_to_a_call(make_llm: MakeLLM, name: str, as_tokens: bool) -> None:
    marks = TOOL_FORMATS.get(name).marks if as_tokens else ()
    llm, turn = make(
        make_llm,
        f"{PRELUDE.get(name, '')}I would rather not.",
        TEMPLATE + KNOWS[name],
        marks,
        tools=TOOLS,
        tool_choice="required",
        parallel=False,
    )
    assert turn.tool_format is TOOL_FORMATS.get(name)
    _, parts, reason = answered(llm, turn)
    ((called, arguments),) = calls_in(parts)
    assert reason == "stop"
    assert called in ("weather", "time")
    assert arguments == {} or arguments["city"] in ("Oslo", "Bern")


@pytest.mark.parametrize("name", TOOL_FORMATS)
def test_a_named_tool_is_the_one_that_is_called(make_llm: MakeLLM, name: str) -> None:
    for only in ("weather", "time"):
        llm, turn = make(
            make_llm,
            f"{PRELUDE.get(name, '')}No.",
            TEMPLATE + KNOWS[name],
            tools=TOOLS,
            tool_choice="required",
            names=[only],
            parallel=False,
        )
        ((called, _),) = calls_in(answered(llm, turn)[1])
        assert called == only


@pytest.mark.parametrize("name", [name for name in TOOL_FORMATS if name not in ("harmony", "generic_json")])
def test_parallel_calls_are_allowed_where_they_are_asked_for(make_llm: MakeLLM, name: str) -> None:
    first, marks = TOOL_FORMATS.get(name).example, TOOL_FORMATS.get(name).marks
    if name == "llama3":
        two = f"{first}; {first}"
    elif name == "mistral":
        two = f"{first[:-1]}, {first.removeprefix('[TOOL_CALLS][')}"
    elif name.startswith("deepseek"):
        second = first.removeprefix(marks[0])
        two = first.removesuffix(marks[1]) + ("\n" if name == "deepseek" else "") + second
    else:
        two = first * 2 if name in ("mistral_args", "function_tags") else f"{first}\n{first}"
    asked = {"tools": TOOLS, "tool_choice": "required"}
    llm, turn = make(make_llm, two, TEMPLATE + KNOWS[name], **asked)
    assert calls_in(answered(llm, turn)[1]) == [("weather", {"city": "Oslo"})] * 2
    llm, turn = make(make_llm, two, TEMPLATE + KNOWS[name], **asked, parallel=False)
    assert calls_in(answered(llm, turn)[1]) == [("weather", {"city": "Oslo"})]


def test_marks_that_are_control_tokens_reach_the_reader_and_no_others_are_shown(make_llm: MakeLLM) -> None:
    marks = ("<tool_call>", "</tool_call>", "<|other|>")
    example = TOOL_FORMATS.get("hermes").example
    said = f"Hm.<|other|>{example}"
    llm, turn = make(make_llm, said, TEMPLATE + KNOWS["hermes"], marks, tools=TOOLS)
    text, parts, _ = answered(llm, turn)
    assert "<|other|>" not in text
    assert turn.frame.shown == {VOCAB, VOCAB + 1}
    assert text_of(parts) == "Hm."
    assert [part.name for part in parts if isinstance(part, CallBegins)] == ["weather"]
    llm, turn = make(make_llm, said, TEMPLATE + KNOWS["hermes"], marks)
    assert "tool_call" not in answered(llm, turn)[0]


def test_without_tools_nothing_is_a_call(make_llm: MakeLLM) -> None:
    example = TOOL_FORMATS.get("hermes").example
    for asked in ({}, {"tools": TOOLS, "tool_choice": "none"}):
        llm, turn = make(make_llm, example, TEMPLATE + KNOWS["hermes"], **asked)
        assert text_of(answered(llm, turn)[1]) == example


def test_channels_are_told_apart_without_tools(make_llm: MakeLLM) -> None:
    said = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes."
    marks = TOOL_FORMATS.get("harmony").marks
    llm, turn = make(make_llm, said, TEMPLATE + KNOWS["harmony"], marks)
    _, parts, _ = answered(llm, turn)
    assert text_of(parts) == "Yes."
    assert text_of(parts, Reasoning) == "Hm."


@pytest.mark.parametrize("marks", [(), ("<think>", "</think>")], ids=["as text", "as tokens"])
def test_a_form_comes_behind_reasoning_that_the_prompt_opens(
    make_llm: MakeLLM, marks: tuple[str, ...]
) -> None:
    template = TEMPLATE + "{% if false %}</think>{% endif %}{% if enable_thinking %}<think>\n{% endif %}"
    for params in (
        SamplingParams(max_tokens=200, json_schema=CITIES),
        SamplingParams(max_tokens=200, regex='"(Oslo|Bern)"'),
        SamplingParams(max_tokens=200, grammar='start: "\\"Oslo\\"" | "\\"Bern\\""'),
    ):
        llm, turn = make(
            make_llm, "Hm.</think>No.", template, marks, template_kwargs={"enable_thinking": True}
        )
        assert turn.is_open
        _, parts, reason = answered(llm, turn, params)
        assert reason == "stop"
        assert text_of(parts, Reasoning) == "Hm."
        assert json.loads(text_of(parts)) in ("Oslo", "Bern")


def test_a_form_comes_in_the_final_channel(make_llm: MakeLLM) -> None:
    said = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>No."
    marks = TOOL_FORMATS.get("harmony").marks
    llm, turn = make(make_llm, said, TEMPLATE + KNOWS["harmony"], marks)
    _, parts, _ = answered(llm, turn, SamplingParams(max_tokens=200, json_schema=CITIES))
    assert text_of(parts, Reasoning) == "Hm."
    assert json.loads(text_of(parts)) in ("Oslo", "Bern")


def test_reasoning_may_go_before_calls_that_are_required(make_llm: MakeLLM) -> None:
    template = TEMPLATE + KNOWS["hermes"] + "{# </think> #}"
    for said, thought in (("<think>Hm.</think>No.", "Hm."), (TOOL_FORMATS.get("hermes").example, "")):
        llm, turn = make(make_llm, said, template, tools=TOOLS, tool_choice="required", parallel=False)
        _, parts, _ = answered(llm, turn)
        assert text_of(parts, Reasoning) == thought
        assert len(calls_in(parts)) == 1


def test_strict_schemas_hold_to_the_letter_and_others_leave_out_what_cannot_be_held_to(
    make_llm: MakeLLM,
) -> None:
    odd = {
        "type": "object",
        "properties": {"a": {"type": "string", "format": "no-such-format", "enum": ["x"]}},
    }
    odd |= {"required": ["a"], "additionalProperties": False}
    lenient = [Tool("odd", "", odd)]
    llm, turn = make(make_llm, "No.", TEMPLATE, tools=lenient, tool_choice="required", parallel=False)
    assert calls_in(answered(llm, turn)[1]) == [("odd", {"a": "x"})]
    odd["properties"] = {"a": {"type": "string", "format": "no-such-format"}}
    llm, turn = make(make_llm, "No.", TEMPLATE, tools=[Tool("odd", "", odd, True)], tool_choice="required")
    with pytest.raises(UsageError, match="no-such-format"):
        answered(llm, turn)


def test_tools_reach_a_template_that_knows_them_and_others_as_text(make_llm: MakeLLM) -> None:
    knows = "{% if tools %}{{ tools | tojson }}{% endif %}" + TEMPLATE
    for template in (knows, TEMPLATE):
        llm = make_llm(template=template)
        prompt = bytes(llm.chat_ids(HI, tools=TOOLS).tolist()).decode()
        assert '"name": "weather"' in prompt
        assert '"enum": ["Oslo", "Bern"]' in prompt
        assert "weather" not in bytes(llm.chat_ids(HI).tolist()).decode()
        assert "weather" not in bytes(llm.chat_ids(HI, tools=TOOLS, tool_choice="none").tolist()).decode()


def test_calls_and_results_reach_a_template_that_knows_none(make_llm: MakeLLM) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "time", "arguments": "{}"}}
    chat = [
        *HI,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "noon"},
    ]
    prompt = bytes(make_llm().chat_ids(chat).tolist()).decode()
    assert '[assistant]{"name": "time", "arguments": {}}' in prompt
    assert "[user]the function returned: noon" in prompt


def test_the_template_reads_variables_and_refuses_unknown_ones(make_llm: MakeLLM) -> None:
    llm = make_llm(template=TEMPLATE + "{{ reasoning_effort }}")
    prompt = bytes(llm.chat_ids(HI, template_kwargs={"reasoning_effort": "low"}).tolist()).decode()
    assert prompt.endswith("low")
    with pytest.raises(UsageError, match="variable"):
        llm.chat_ids(HI, template_kwargs={"reasoning_efort": "low"})


@pytest.mark.parametrize(
    "asked",
    [
        {"tool_choice": "required"},
        {"tools": [{"type": "function"}]},
        {"tools": TOOLS, "names": ["nope"]},
        {"tools": [*TOOLS, *TOOLS]},
    ],
)
def test_what_cannot_be_asked_is_a_usage_error(make_llm: MakeLLM, asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        make_llm().chat_turn(HI, **asked)


def test_a_required_call_and_another_form_exclude_each_other(make_llm: MakeLLM) -> None:
    turn = make_llm().chat_turn(HI, tools=TOOLS, tool_choice="required")
    with pytest.raises(UsageError, match="one form"):
        turn.held(SamplingParams(regex="a"))


def test_chat_answers_with_the_models_own_marks_where_tools_are_given(make_llm: MakeLLM) -> None:
    tokenizer, num_prompt = MarkedTokenizer("[TOOL_CALLS]", "[ARGS]"), [0]
    example = TOOL_FORMATS.get("mistral_args").example
    llm = make_llm(
        script(example, tokenizer, num_prompt), template=TEMPLATE + KNOWS["mistral_args"], tokenizer=tokenizer
    )
    num_prompt[0] = len(llm.chat_ids(HI))
    assert llm.chat(HI, tools=TOOLS).text == example
    assert llm.chat(HI).text == 'weather{"city": "Oslo"}'


def test_reasoning_before_a_call_comes_back_to_a_template_of_channels(make_llm: MakeLLM) -> None:
    template = "{# tools <|channel|> <|message|> #}{% for m in messages %}{{ m.thinking }}{% endfor %}"
    call = {"id": "1", "type": "function", "function": {"name": "time", "arguments": "{}"}}
    thought = {"role": "assistant", "reasoning_content": "Hm.", "tool_calls": [call]}
    assert bytes(make_llm(template=template).chat_ids([*HI, thought]).tolist()) == b"Hm."


def test_a_model_is_read_as_it_was_told_to_write(make_llm: MakeLLM) -> None:
    """Some templates know earlier calls, and do not tell of tools: then we do, in our own way."""
    template = TEMPLATE + KNOWS["deepseek"].replace("tools", "")
    assert make_llm(template=template).chat_turn(HI, tools=TOOLS).tool_format is TOOL_FORMATS.get(
        "generic_json"
    )


def test_tools_whose_schemas_are_too_long_to_hold_to_are_an_error_with_the_numbers(make_llm: MakeLLM) -> None:
    properties = {f"property_{place}": {"type": "string"} for place in range(1200)}
    long = {"type": "object", "properties": properties}
    llm = make_llm(template=TEMPLATE + KNOWS["hermes"])  # which does not write them into the prompt
    turn = llm.chat_turn(HI, tools=[Tool("a", "", long), Tool("b", "", long)], tool_choice="required")
    with pytest.raises(LimitExceeded, match="offer fewer"):
        turn.held()
