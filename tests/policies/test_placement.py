from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.core.keys import UnitKey, dense_key, expert_key
from apportion.policies import PLACEMENTS
from apportion.policies.placement import PlacedUnit

UNITS = st.lists(
    st.builds(
        PlacedUnit,
        st.builds(expert_key, st.integers(0, 5), st.integers(0, 9)),
        st.integers(0, 100),
        st.floats(0, 10),
    ),
    unique_by=lambda unit: unit.key,
    max_size=20,
)


def kept(name: str, units: list[PlacedUnit], nbytes: int) -> list[UnitKey]:
    return list(PLACEMENTS.get(name).choose(units, nbytes))


@pytest.mark.parametrize("name", list(PLACEMENTS))
@given(units=UNITS, nbytes=st.integers(0, 800))
def test_what_is_kept_fits_and_what_is_left_out_would_not(
    name: str, units: list[PlacedUnit], nbytes: int
) -> None:
    keys = kept(name, units, nbytes)
    sizes = {unit.key: unit.nbytes for unit in units}
    left = nbytes - sum(sizes[key] for key in keys)
    assert left >= 0
    assert len(set(keys)) == len(keys)
    assert all(sizes[key] > left for key in sizes.keys() - set(keys))


def test_layer_order_keeps_the_first_layers() -> None:
    units = [PlacedUnit(dense_key(layer), 10, uses=layer) for layer in (3, 0, 2, 1)]
    assert kept("layer_order", units, 25) == [dense_key(0), dense_key(1)]


def test_most_used_keeps_the_most_uses_per_byte() -> None:
    units = [
        PlacedUnit(expert_key(0, 0), 10, uses=5),
        PlacedUnit(expert_key(0, 1), 100, uses=40),
        PlacedUnit(expert_key(0, 2), 10, uses=1),
        PlacedUnit(expert_key(1, 0), 10, uses=5),
        PlacedUnit(expert_key(1, 1), 0, uses=0),
    ]
    first, second, third = expert_key(0, 0), expert_key(1, 0), expert_key(0, 2)
    assert kept("most_used", units, 30) == [first, second, third, expert_key(1, 1)]
    assert kept("most_used", units, 120) == [first, second, expert_key(0, 1), expert_key(1, 1)]
