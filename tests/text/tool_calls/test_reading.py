from __future__ import annotations

import json
from typing import Any

import pytest
from tests.text.tool_calls.answers import ANSWERS
from tests.text.tool_calls.reading import OSLO_CALL, in_pieces, parts_of, reader, told

from apportion.text.answer_parts import CallBegins, Mismatch, Text
from apportion.text.tool_calls import TOOL_FORMATS

CASES = [
    pytest.param(name, text, wanted, id=f"{name}-{place}")
    for name, cases in ANSWERS.items()
    for place, (text, wanted) in enumerate(cases)
]


def agrees(found: list[Any], wanted: list[Any]) -> bool:
    """Reasons of mismatches need only hold the words that are wanted."""
    if len(found) != len(wanted):
        return False
    return all(
        one[0] == "?" and other[1] in one[1] if isinstance(other, tuple) and other[0] == "?" else one == other
        for one, other in zip(found, wanted, strict=True)
    )


@pytest.mark.parametrize(("name", "text", "wanted"), CASES)
def test_an_answer_is_read_the_same_however_it_is_cut(name: str, text: str, wanted: list[Any]) -> None:
    whole = told(parts_of(reader(name), [text]))
    assert agrees(whole, wanted), whole
    for place in range(1, len(text)):
        assert told(parts_of(reader(name), [text[:place], text[place:]])) == whole
    for size in range(1, 8):
        assert told(parts_of(reader(name), in_pieces(text, size))) == whole


@pytest.mark.parametrize("name", TOOL_FORMATS)
def test_the_example_of_a_format_is_one_call(name: str) -> None:
    found = told(parts_of(reader(name), [TOOL_FORMATS.get(name).example]))
    assert [one for one in found if not isinstance(one, list)] == [OSLO_CALL]


@pytest.mark.parametrize("name", TOOL_FORMATS)
def test_arguments_come_before_they_are_complete(name: str) -> None:
    example = TOOL_FORMATS.get(name).example
    parts = reader(name)
    before = told([one for piece in example[: example.index("slo")] for one in parts.feed(piece)])
    assert before[-1][0] == "weather"
    assert before[-1][1].endswith("O")


@pytest.mark.parametrize("name", TOOL_FORMATS)
def test_an_example_that_is_cut_off_anywhere_never_shows_half_of_a_mark(name: str) -> None:
    tool_format = TOOL_FORMATS.get(name)
    for end in range(len(tool_format.example)):
        parts = reader(name)
        texts = [
            one.text
            for piece in tool_format.example[:end]
            for one in parts.feed(piece)
            if isinstance(one, Text)
        ]
        assert "".join(texts) == ""


@pytest.mark.parametrize("name", TOOL_FORMATS)
def test_calls_of_an_answer_are_numbered_and_have_ids_of_their_own(name: str) -> None:
    example = TOOL_FORMATS.get(name).example
    separator = {"llama3": ";", "harmony": "<|end|><|start|>assistant"}.get(name, "\n")
    text = f"[{example},{example}]" if name == "generic_json" else separator.join([example, example])
    calls = [part for part in parts_of(reader(name), [text]) if isinstance(part, CallBegins)]
    assert [call.index for call in calls] == [0, 1]
    assert len({call.call_id for call in calls}) == 2
    assert all(call.call_id.replace("_", "").isalnum() for call in calls)


def test_mistrals_ids_have_nine_letters_and_an_id_of_its_own_is_kept() -> None:
    (call, *_) = parts_of(reader("mistral"), ["[TOOL_CALLS]time[ARGS]{}"])
    assert isinstance(call, CallBegins)
    assert len(call.call_id) == 9
    (call, *_) = parts_of(reader("mistral"), ["[TOOL_CALLS]time[CALL_ID]123456789[ARGS]{}"])
    assert isinstance(call, CallBegins)
    assert call.call_id == "123456789"


def test_a_mismatch_tells_what_was_written() -> None:
    mismatch = next(
        part
        for part in parts_of(reader("hermes"), ['<tool_call>{"name": "nope"}'])
        if isinstance(part, Mismatch)
    )
    assert mismatch.raw == '<tool_call>{"name": "nope"'


@pytest.mark.parametrize("name", TOOL_FORMATS)
@pytest.mark.parametrize(
    "value", ["</tool_call>", "[TOOL_CALLS]", "```", '"}}', "\\", "\n", "\u2028", "{", "🚀"]
)
def test_whatever_stands_in_an_argument_comes_back(name: str, value: str) -> None:
    example = TOOL_FORMATS.get(name).example
    written = value if name == "qwen3_coder" else json.dumps(value, ensure_ascii=False)[1:-1]
    text = example.replace("Oslo", f"a{written}b")
    found = told(parts_of(reader(name), in_pieces(text, 3)))
    assert json.loads(found[-1][1]) == {"city": f"a{value}b"}
