"""`apportion bench-kernels`: the documented object, and tables."""

from __future__ import annotations

import pytest

from apportion.bench import kernels, limits, shapes
from apportion.bench.shapes import ModelShape, Product

TINY = ModelShape("tiny", (Product("a", 48, 64),), Product("head", 80, 64))
WORDS = ("--shapes", "tiny", "--threads", 1, "--tokens", 4, "--repetitions", 1)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAM_NBYTES", 1 << 20)
    monkeypatch.setattr(kernels, "COLD_NBYTES", 1 << 14)
    monkeypatch.setattr(kernels, "POOL_NUMBERS", 1 << 12)
    monkeypatch.setattr(kernels, "MIN_SECONDS", 0.0)
    monkeypatch.setitem(shapes.SHAPES, "tiny", TINY)


def test_json_says_what_was_measured_and_where(apportion) -> None:
    found = apportion("bench-kernels", *WORDS, "--formats", "q4_0, f16", "--json").object
    assert [(one["format"], one["kind"], one["product"]) for one in found["results"]] == [
        (name, kind, product)
        for name in ("q4_0", "f16")
        for kind, product in (("matvec", "a"), ("matmat", "a"), ("matvec", "head"))
    ]
    assert (found["threads"], found["tokens"], found["repetitions"], found["exact"]) == (1, 4, 1, False)
    assert found["provenance"]["processor"]


def test_the_tables_have_a_row_for_each_format_that_is_computed_on(apportion) -> None:
    out = apportion("bench-kernels", *WORDS).out
    assert out.count("| q4_0 ") == out.count("| bf16 ") == 2
    assert "iq2_xs" not in out
    assert "| format | tiny layer" in out


@pytest.mark.parametrize(
    ("words", "hint"),
    [(("--formats", "q4_00"), "q4_0"), (("--shapes", "olmo"), "olmoe"), (("--threads", 0), "0")],
)
def test_what_is_not_known_is_an_error_of_usage(apportion, words: tuple[object, ...], hint: str) -> None:
    outcome = apportion("bench-kernels", *words)
    assert outcome.status == 2
    assert hint in outcome.err
