from __future__ import annotations

from dataclasses import replace

import pytest

from apportion.serve.unloading import IdleModel, giving_way

MODEL = IdleModel("a", nbytes=100, load_s=10.0, idle_s=60.0, num_uses=5, known_s=600.0)


def names(*models: IdleModel, nbytes: int) -> list[str] | None:
    return giving_way(models, nbytes)


@pytest.mark.parametrize(
    "less",
    [
        {"load_s": 1.0},
        {"idle_s": 6000.0},
        {"num_uses": 1},
        {"nbytes": 1000},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_quicker_to_load_longer_idle_less_used_or_larger_goes_first(less: dict[str, float]) -> None:
    other = replace(MODEL, name="b", **less)
    assert other.worth < MODEL.worth
    assert names(MODEL, other, nbytes=50) == ["b"]


def test_as_many_go_as_are_needed() -> None:
    models = [replace(MODEL, name=name, load_s=load_s) for name, load_s in zip("abc", (3, 1, 2), strict=True)]
    assert [names(*models, nbytes=n) for n in (1, 100, 101, 200, 300)] == [
        ["b"],
        ["b"],
        ["b", "c"],
        ["b", "c"],
        ["b", "c", "a"],
    ]


def test_nobody_goes_where_all_together_are_not_enough() -> None:
    assert names(MODEL, nbytes=101) is None
    assert names(nbytes=1) is None


def test_nobody_goes_for_nothing() -> None:
    assert names(MODEL, nbytes=0) == []


def test_one_that_a_larger_one_makes_needless_stays() -> None:
    small, large = replace(MODEL, name="small", load_s=0.1), replace(MODEL, name="large", nbytes=900)
    assert small.worth < large.worth
    assert names(small, large, nbytes=500) == ["large"]


def test_the_order_in_which_they_are_told_makes_no_difference() -> None:
    models = [replace(MODEL, name=name) for name in "abc"]
    assert names(*models, nbytes=150) == names(*models[::-1], nbytes=150) == ["a", "b"]


def test_a_model_that_was_never_used_has_a_worth() -> None:
    assert replace(MODEL, num_uses=0, known_s=0.0, idle_s=0.0).worth > 0
