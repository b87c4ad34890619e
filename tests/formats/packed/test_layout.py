from __future__ import annotations

import pytest
from tests.formats.packed.crafted import LAYOUT

from apportion.core.errors import BadFile
from apportion.formats.blocks import format_by_name
from apportion.formats.packed import EXPERTS, PackedLayout, Part, encode_layout, parse_layout


def test_a_layout_is_read_back_as_it_was_written() -> None:
    parts = {
        EXPERTS[0]: Part(0, format_by_name("q4_k"), (32, 256), True),
        EXPERTS[1]: Part(4608, format_by_name("q4_k"), (32, 256), True),
        EXPERTS[2]: Part(9216, format_by_name("q6_k"), (40, 256), False),
    }
    layout = PackedLayout(("token_embd.weight", "blk.0.attn_q.weight"), {0: parts, 17: parts})
    assert parse_layout(encode_layout(layout)) == layout


def test_a_model_without_experts_or_panels_has_an_empty_layout() -> None:
    assert parse_layout(encode_layout(PackedLayout((), {}))) == PackedLayout((), {})


@pytest.mark.parametrize("text", ["{}", '{"interleaved": [1], "experts": {}}', '{"interleaved": []}', "null"])
def test_what_is_no_layout_is_refused(text: str) -> None:
    with pytest.raises(BadFile, match="pack the model anew"):
        parse_layout(text)


def test_the_layout_that_tests_lie_about_is_a_valid_one() -> None:
    import json

    assert parse_layout(json.dumps(LAYOUT)).experts.keys() == {0}
