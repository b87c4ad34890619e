from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.text.json_text import MAX_DEPTH, JsonText

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def taken(text: str, size: int = 1 << 20) -> tuple[str, JsonText]:
    """What the value takes of a text that comes in pieces."""
    value, rest, found = JsonText(), "", ""
    for start in range(0, len(text), size):
        rest += text[start : start + size]
        count = value.feed(rest)
        found, rest = found + rest[:count], rest[count:]
    return found, value


@settings(max_examples=150, deadline=None)
@given(value=VALUES, size=st.integers(1, 9), indent=st.none() | st.integers(0, 2), ascii_only=st.booleans())
def test_a_value_is_taken_up_to_its_end(value: Any, size: int, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    found, reader = taken(text + " }", size)
    assert reader.is_done
    assert json.loads(found) == value
    assert found == text


@settings(max_examples=200, deadline=None)
@given(
    text=st.text('{}[]":,0123456789.eE+-truefalsn\\u \n', max_size=24),
    size=st.integers(1, 5),
)
def test_what_python_refuses_is_never_taken_for_whole(text: str, size: int) -> None:
    found, reader = taken(text + "\0", size)
    try:
        _, end = json.JSONDecoder(parse_constant=lambda word: 1 / 0).raw_decode(text.lstrip(" \n"))
    except (ValueError, ZeroDivisionError):
        assert not reader.is_done
    else:
        # Python takes the beginning of "01" or "1.x" for a number; we see the whole word.
        if reader.is_done:
            assert found.strip(" \n") == text.lstrip(" \n")[:end]


@pytest.mark.parametrize(
    "text",
    [
        "{'a': 1}",
        '{"a" 1}',
        '{"a":}',
        '{"a":1,}',
        "[1,]",
        "[1 2]",
        "{,}",
        "nul ",
        "True",
        "NaN",
        "-Infinity",
        "01 ",
        "1. ",
        ".5",
        "+1",
        "1e ",
        '"\x01"',
        '"\\x"',
        '"\\u12g4"',
        "}",
        "[" * (MAX_DEPTH + 1),
    ],
)
def test_what_is_no_json_breaks_with_a_reason(text: str) -> None:
    whole, by_letters = taken(text), taken(text, 1)
    assert whole[1].broken
    assert whole[1].broken == by_letters[1].broken
    assert whole[0] == by_letters[0]


def test_an_escape_that_is_cut_waits_for_its_rest() -> None:
    value = JsonText()
    assert value.feed('"\\u00') == 1
    assert value.feed("\\u00e5") == 6
    assert value.feed('"') == 1
    assert value.is_done


def test_what_stands_before_an_escape_that_is_cut_does_not_wait() -> None:
    assert JsonText().feed('"abc\\') == 4
