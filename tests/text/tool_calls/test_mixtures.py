"""Answers thrown together from what formats are made of: cut anywhere, read the same; calls whole or loud."""

from __future__ import annotations

import json
import random

import pytest
from tests.text.tool_calls.reading import in_pieces, parts_of, reader, told

from apportion.text.reasoning import MARKS
from apportion.text.tool_calls import TOOL_FORMATS

WORDS = (
    '{"name": "',
    "weather",
    "time",
    '"arguments": ',
    '"parameters":',
    "null",
    "\\",
    "\\u00",
    "<function=",
    "<parameter=city>",
    "</parameter>",
    "</function>",
    "functions.",
    "to=",
    "```",
    "```json",
    "<think>",
    "</think>",
    "assistant",
    "analysis",
    *'"{}:,[]5\n a>;',
)


@pytest.mark.parametrize("name", TOOL_FORMATS)
def test_mixtures_are_read_the_same_however_they_are_cut(name: str) -> None:
    tool_format = TOOL_FORMATS.get(name)
    words = [*WORDS, *tool_format.marks, tool_format.example, tool_format.example[:30]]
    for seed in range(120):
        rng = random.Random(seed)
        text = "".join([*tool_format.marks[: rng.randint(0, 1)], *rng.choices(words, k=rng.randint(1, 14))])
        reasoning = MARKS[0] if rng.random() < 0.4 else None
        is_open = reasoning is not None and rng.random() < 0.5
        whole = told(parts_of(reader(name, reasoning=reasoning, is_open=is_open), [text]))
        for size in (1, 2, 5):
            parts = reader(name, reasoning=reasoning, is_open=is_open)
            assert told(parts_of(parts, in_pieces(text, size))) == whole, text
        for place, one in enumerate(whole):
            if (
                isinstance(one, tuple)
                and one[0] != "?"
                and not any(other[0] == "?" for other in whole[place:])
            ):
                assert isinstance(json.loads(one[1]), dict), text
