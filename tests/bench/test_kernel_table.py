"""Measured products as tables."""

from __future__ import annotations

from typing import Any

from apportion.bench.kernel_table import aligned, cell, limit_of, markdown


def result(kind: str, part: str, name: str, amount: float, rate: float, limit: float) -> dict[str, Any]:
    return {
        "kind": kind,
        "model": "tiny",
        "part": part,
        "product": "p",
        "format": name,
        "amount": amount,
        "rate": {"median": rate, "min": 0.9 * rate, "max": 1.1 * rate},
        "limit": {"median": limit, "min": limit, "max": limit},
        "share": rate / limit,
    }


RESULTS = [
    result("matvec", "layer", "q4_0", 30.0, 10.0, 20.0),
    result("matvec", "layer", "q4_0", 10.0, 5.0, 20.0),
    result("matvec", "head", "q4_0", 1.0, 16.0, 20.0),
    result("matmat", "layer", "q4_0", 5.0, 150.0, 200.0),
    result("matvec", "layer", "f16", 1.0, 12.0, 24.0),
    result("matmat", "layer", "f16", 1.0, 50.0, 100.0),
]
REPORT = {
    "provenance": {
        "processor": "Abacus",
        "commit": "abc",
        "version": "1",
        "date": "2030-01-01T00:00Z",
        "load_average": 2.04,
    },
    "threads": 2,
    "isa": "avx2",
    "tokens": 256,
    "repetitions": 3,
    "results": RESULTS,
}


def test_a_cell_sums_products_by_the_time_they_take() -> None:
    # 40 in 3 + 2 s; the limit allows 2 s of those 5
    assert cell(RESULTS[:2]) == "8.0 (40%)"
    assert cell([]) == "-"


def test_limits_show_how_far_they_moved() -> None:
    assert limit_of(RESULTS, "matvec") == "20 to 24"
    assert limit_of(RESULTS, "matmat", ["f32", "bf16"]) == "100"
    assert limit_of(RESULTS, "matmat", ["int8"]) == "200"
    assert limit_of(RESULTS[:3], "matmat") == "-"


def test_the_tables_have_a_row_for_each_format_and_say_where_they_come_from() -> None:
    text = markdown(REPORT)
    assert text.startswith(
        "Abacus, 2 threads, avx2; version 1, commit abc; 2030-01-01T00:00Z, load average 2.0. Medians of 3"
    )
    assert "| format | tiny layer |  tiny head |" in text
    assert "| q4_0   |  8.0 (40%) | 16.0 (80%) |" in text
    assert "| f16    | 12.0 (50%) |          - |" in text
    assert "| q4_0   |  150 (75%) |" in text
    assert "256 tokens" in text
    assert text.endswith("20% in the middle, 20% at most.")


def test_columns_are_aligned() -> None:
    lines = aligned([["a", "bb"], ["long", "1"]]).splitlines()
    assert lines == ["| a    | bb |", "| ---- | -: |", "| long |  1 |"]
