"""Block formats by name and by type number."""

from __future__ import annotations

import pytest

from apportion.core.errors import Unsupported
from apportion.formats.blocks import FORMATS, format_by_ggml_type, format_by_name

NATIVE = {"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1"}
NATIVE |= {"q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "mxfp4"}


def test_the_kernels_formats_are_marked() -> None:
    assert {name for name in FORMATS if FORMATS[name].native} == NATIVE


def test_names_and_type_numbers_are_looked_up() -> None:
    for name, block_format in FORMATS.items():
        assert block_format.name == name
        assert format_by_name(name) is format_by_name(name.upper()) is block_format
        assert format_by_ggml_type(block_format.ggml_type) is block_format


def test_an_unknown_type_number_names_itself_and_the_known_ones() -> None:
    with pytest.raises(Unsupported, match="unknown ggml type 77") as failure:
        format_by_ggml_type(77)
    assert failure.value.numbers == {"ggml_type": 77}
    assert "39 mxfp4" in failure.value.hint


def test_a_withdrawn_type_number_is_named() -> None:
    with pytest.raises(Unsupported, match="q4_0_8_8 was withdrawn"):
        format_by_ggml_type(33)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(Unsupported, match=r"'q9_z'.*q4_0"):
        format_by_name("q9_z")
