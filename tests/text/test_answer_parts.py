from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.text.tool_calls.reading import OSLO_CALL, in_pieces, parts_of, reader, told

from apportion.text.answer_parts import AnswerParts, Text
from apportion.text.reasoning import MARKS, ReasoningMarks, reasoning_marks
from apportion.text.tool_calls import TOOL_FORMATS

THINK = MARKS[0]
CALL = TOOL_FORMATS.get("hermes").example

REASONED: list[tuple[str, bool, list[Any]]] = [
    ("<think>\nOne.\n\nTwo.\n</think>\n\nThree.", False, [["One.\n\nTwo."], "Three."]),
    ("<think></think>Hello", False, ["Hello"]),
    ("<think>\n\n</think>\n\nHello\n", False, ["Hello\n"]),
    ("Hello <think>no</think>", False, ["Hello <think>no</think>"]),
    ("  Hello", False, ["  Hello"]),
    ("<thin", False, ["<thin"]),
    ("<think>never ends", False, [["never ends"]]),
    ("<think>a </thin b</think>c", False, [["a </thin b"], "c"]),
    ("One.\n</think>\n\nTwo.", True, [["One."], "Two."]),
    ("<think>\nOne.</think>Two.", True, [["One."], "Two."]),
    ("</think>Two.", True, ["Two."]),
    ("never ends", True, [["never ends"]]),
    ("a</think>b</think>c", True, [["a"], "b</think>c"]),
    (f"<think>Look it up.</think>\n{CALL}", False, [["Look it up."], OSLO_CALL]),
    (f"<think>{CALL}</think>Done.", False, [[CALL], "Done."]),
]


@pytest.mark.parametrize(("text", "is_open", "wanted"), REASONED)
def test_reasoning_is_split_off_however_the_answer_is_cut(
    text: str, is_open: bool, wanted: list[Any]
) -> None:
    for size in [*range(1, 12), len(text)]:
        parts = reader("hermes", reasoning=THINK, is_open=is_open)
        assert told(parts_of(parts, in_pieces(text, size))) == wanted


@pytest.mark.parametrize("marks", MARKS, ids=lambda marks: marks.begin)
def test_marks_are_found_by_the_template_and_the_end_of_the_prompt(marks: ReasoningMarks) -> None:
    assert reasoning_marks(f"x {marks.begin} y {marks.end} z") == marks
    assert marks.is_open_in(f"user\nHi\nassistant\n{marks.begin}\n")
    assert not marks.is_open_in(f"assistant\n{marks.begin}\n\n{marks.end}\n\n")
    assert not marks.is_open_in("assistant\n")


def test_a_template_without_reasoning_has_no_marks() -> None:
    assert reasoning_marks("{{ messages }} <think>") is None


def test_without_tools_and_reasoning_all_is_text_at_once() -> None:
    parts = AnswerParts()
    assert parts.feed("<tool_call> <think>  ") == [Text("<tool_call> <think>  ")]
    assert parts.feed("") == []
    assert parts.finish() == []


@settings(max_examples=100, deadline=None)
@given(
    text=st.text("ab <>/\n", max_size=40),
    name=st.sampled_from(["hermes", "mistral", "deepseek", "llama3", "generic_json"]),
    size=st.integers(1, 9),
)
def test_text_without_calls_comes_back_whole(text: str, name: str, size: int) -> None:
    found = told(parts_of(reader(name), in_pieces(text, size)))
    assert found == ([text] if text else [])


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_text_is_held_back_longer_than_it_may_be_a_mark_or_space_before_one(data: st.DataObject) -> None:
    pieces = data.draw(st.lists(st.text("ab<tol_c>", min_size=1, max_size=4), max_size=12))
    parts, come, shown = reader("hermes"), "", ""
    for piece in pieces:
        come += piece
        shown += "".join(part.text for part in parts.feed(piece) if isinstance(part, Text))
        assert come.startswith(shown)
        assert "<tool_call>".startswith(come[len(shown) :])
