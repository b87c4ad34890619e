"""Which GGUF of several is taken."""

from __future__ import annotations

import pytest

from apportion.core.errors import NotFound, UsageError
from apportion.sources.pick import choices, pick, quant_of


@pytest.mark.parametrize(
    ("stem", "quant"),
    [
        ("Qwen3-0.6B-Q4_K_M", "Q4_K_M"),
        ("smollm2-135m-instruct.Q4_1", "Q4_1"),
        ("gemma-3-270m-q4_k_m", "Q4_K_M"),
        ("model.i1-IQ3_XXS", "IQ3_XXS"),
        ("Model-UD-Q4_K_XL", "UD-Q4_K_XL"),
        ("gpt-oss-20b-mxfp4", "MXFP4"),
        ("model-bf16", "BF16"),
        ("model.fp16", "FP16"),
        ("model-f32", "F32"),
        ("folder/Q8_0/model-Q8_0", "Q8_0"),
        ("Q8_0/model", ""),
        ("model-IQ4_NL", "IQ4_NL"),
        ("model-TQ1_0", "TQ1_0"),
        ("llama-3", ""),
        ("q4", "Q4"),
        ("modelQ4_0", ""),
    ],
)
def test_the_quantization_stands_at_the_end_of_the_name(stem: str, quant: str) -> None:
    assert quant_of(stem) == quant


FILES = [
    ("m-Q2_K.gguf", 20),
    ("m-Q4_K_M.gguf", 45),
    ("m-Q4_0.gguf", 40),
    ("m-Q8_0.gguf", 80),
    ("m-F16.gguf", 160),
]


def test_the_tag_decides() -> None:
    assert pick(FILES, "Q8_0", "x").names == ("m-Q8_0.gguf",)


def test_without_a_tag_it_is_the_usual_one() -> None:
    assert pick(FILES, None, "x").quant == "Q4_K_M"


def test_without_the_usual_one_it_is_the_smallest_of_four_bits_and_more() -> None:
    assert pick([f for f in FILES if "K_M" not in f[0]], None, "x").quant == "Q4_0"


def test_without_any_of_four_bits_it_is_the_smallest() -> None:
    assert pick([("m-Q3_K_S.gguf", 30), ("m-Q2_K.gguf", 20)], None, "x").quant == "Q2_K"


def test_an_absent_tag_names_those_that_are_there() -> None:
    with pytest.raises(NotFound) as caught:
        pick(FILES, "Q5_K_M", "org/name")
    assert "Q2_K" in caught.value.hint
    assert "Q8_0" in caught.value.hint


def test_two_models_of_one_tag_are_a_question() -> None:
    with pytest.raises(UsageError) as caught:
        pick([("a-Q4_0.gguf", 1), ("b-Q4_0.gguf", 1)], "Q4_0", "x")
    assert "a-Q4_0.gguf, b-Q4_0.gguf" in caught.value.hint


def test_shards_are_one_model_in_their_order() -> None:
    names = [f"Q8_0/m-Q8_0-{i:05d}-of-00003.gguf" for i in (3, 1, 2)]
    choice = pick([(name, 10) for name in names], "Q8_0", "x")
    assert choice.names == tuple(sorted(names))
    assert choice.nbytes == 30


def test_a_model_with_a_missing_shard_is_none() -> None:
    with pytest.raises(NotFound, match="missing"):
        pick([("m-00001-of-00002.gguf", 1)], None, "x")


def test_projectors_and_calibration_data_are_no_models() -> None:
    assert not choices(
        [("mmproj-model-f16.gguf", 1), ("a/m.imatrix.gguf", 1), ("README.md", 1), ("m.gguf.part00", 1)]
    )
