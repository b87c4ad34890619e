"""The registry of KV codecs, and codecs by layer."""

from __future__ import annotations

import pytest

from apportion.core.errors import NotFound, UsageError
from apportion.kernels.kv_codecs import CODECS, DEFAULT, checked, layer_codecs


def test_every_codec_has_a_summary_and_rows_that_the_core_knows() -> None:
    assert DEFAULT in CODECS
    for name in CODECS:
        codec = CODECS.get(name)
        assert codec.summary
        assert codec.hot is None or CODECS.get(codec.hot).num_scales == 0


def test_one_name_is_for_all_layers() -> None:
    assert layer_codecs("q8", 3) == ("q8",) * 3
    assert layer_codecs("q4-smooth", 2) == ("q4_smooth",) * 2


def test_layers_may_have_codecs_of_their_own() -> None:
    assert layer_codecs("f16*2,q4", 5) == ("f16", "f16", "q4", "q4", "q4")
    assert layer_codecs("f16, q8*3", 4) == ("f16", "q8", "q8", "q8")


@pytest.mark.parametrize("words", ["f16*2,q4*2", "f16*6", "f16*2,q4*0", "f16*x,q4", "q8*2,q4*4"])
def test_codecs_for_more_or_fewer_layers_than_there_are_are_refused(words: str) -> None:
    with pytest.raises(UsageError):
        layer_codecs(words, 5)


@pytest.mark.parametrize("words", ["q5", "", "f16,", "f17*2,q4"])
def test_unknown_codecs_are_refused(words: str) -> None:
    for refused in (lambda: layer_codecs(words, 5), lambda: checked(words)):
        with pytest.raises(NotFound):
            refused()


def test_words_can_be_checked_before_the_model_is_known() -> None:
    assert checked("f16*2,q4") == "f16*2,q4"
    with pytest.raises(UsageError):
        checked("f16*-1,q4")
