from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.core.errors import UsageError
from apportion.core.keys import EMBEDDING, HEAD, Stage, UnitKey, dense_key, expert_key

KEYS = st.one_of(
    st.sampled_from([EMBEDDING, HEAD]),
    st.builds(dense_key, st.integers(0, 999_999)),
    st.builds(expert_key, st.integers(0, 999_999), st.integers(0, 999_999)),
)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (EMBEDDING, "embedding"),
        (HEAD, "head"),
        (dense_key(7), "L07.dense"),
        (expert_key(7, 12), "L07.e012"),
        (expert_key(123, 4567), "L123.e4567"),
    ],
)
def test_a_key_has_one_spelling(key: UnitKey, text: str) -> None:
    assert str(key) == text
    assert UnitKey.parse(text) == key


@given(KEYS)
def test_parse_undoes_str(key: UnitKey) -> None:
    assert UnitKey.parse(str(key)) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Head",
        "L7.dense",
        "L007.dense",
        "L07",
        "L07.e12",
        "L07.e0012",
        "L-1.dense",
        "L07.e012 ",
        "L1234567.dense",
    ],
)
def test_another_spelling_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a unit"):
        UnitKey.parse(text)


def test_keys_sort_in_the_order_in_which_a_token_meets_them() -> None:
    ordered = [
        EMBEDDING,
        dense_key(0),
        expert_key(0, 0),
        expert_key(0, 1),
        dense_key(1),
        expert_key(1, 0),
        HEAD,
    ]
    shuffled = random.Random(0).sample(ordered, len(ordered))
    assert sorted(shuffled) == ordered


def test_keys_are_values() -> None:
    assert {dense_key(3): 1}[dense_key(3)] == 1
    with pytest.raises(AttributeError):
        dense_key(3).layer = 4  # type: ignore[misc]


def test_only_experts_are_experts() -> None:
    assert [key.is_expert for key in (EMBEDDING, dense_key(0), expert_key(0, 0), HEAD)] == [
        False,
        False,
        True,
        False,
    ]
    assert dense_key(0).stage is Stage.LAYER


@pytest.mark.parametrize(
    "make", [lambda: dense_key(-1), lambda: expert_key(-1, 0), lambda: expert_key(0, -1)]
)
def test_negative_numbers_are_a_programmers_error(make) -> None:
    with pytest.raises(AssertionError):
        make()
