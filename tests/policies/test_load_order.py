from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.policies import LOAD_ORDERS

PLACES = st.dictionaries(st.integers(0, 63), st.tuples(st.integers(0, 2), st.integers(0, 10**6)), max_size=10)


@pytest.mark.parametrize("name", list(LOAD_ORDERS))
@given(places=PLACES)
def test_every_miss_is_read_once(name: str, places: dict[int, tuple[int, int]]) -> None:
    ordered = LOAD_ORDERS.get(name).order(list(places), places.__getitem__)
    assert sorted(ordered) == sorted(places)


def test_demand_keeps_the_order_of_asking() -> None:
    places = {5: (0, 9), 1: (0, 1), 3: (0, 3)}
    assert list(LOAD_ORDERS.get("demand").order([5, 1, 3], places.__getitem__)) == [5, 1, 3]


def test_file_goes_through_the_files_from_front_to_back() -> None:
    places = {5: (1, 0), 1: (0, 900), 3: (0, 100)}
    assert list(LOAD_ORDERS.get("file").order([5, 1, 3], places.__getitem__)) == [3, 1, 5]
