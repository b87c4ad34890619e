from __future__ import annotations

import pytest

from apportion.core.errors import BadFile
from apportion.text.answer import Answer, Call, answer_of
from apportion.text.answer_parts import CallArguments, CallBegins, Mismatch, Reasoning, Text


def test_parts_add_up_to_an_answer() -> None:
    parts = [
        Reasoning("H"),
        Reasoning("m."),
        Text("Let me "),
        Text("see."),
        CallBegins(0, "a", "weather"),
        CallArguments(0, '{"city":'),
        CallArguments(0, ' "Oslo"}'),
        CallBegins(1, "b", "time"),
        CallArguments(1, "{}"),
        Mismatch("<tool_call>", "cut off"),
    ]
    calls = (Call("a", "weather", '{"city": "Oslo"}'), Call("b", "time", "{}"))
    assert answer_of(parts) == Answer("Let me see.", "Hm.", calls, ("cut off",))
    assert calls[0].values() == {"city": "Oslo"}


def test_arguments_that_are_cut_off_have_no_values() -> None:
    with pytest.raises(BadFile, match="weather"):
        Call("a", "weather", '{"city": "Os').values()
