"""Which type a metadata value gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from apportion.core.errors import UsageError
from apportion.formats.gguf import TypedList, ValueType
from apportion.formats.gguf.encode import encode_pair, type_of

T = ValueType


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, T.BOOL), (0, T.UINT32), ((1 << 32) - 1, T.UINT32), (1 << 32, T.UINT64), (-1, T.INT32),
        (-(1 << 40), T.INT64), (0.1, T.FLOAT32), ("x", T.STRING), (np.float64(1), T.FLOAT64),
        (np.uint8(1), T.UINT8), (np.bool_(True), T.BOOL), ([1], T.ARRAY),
        ((1,), T.ARRAY), (np.zeros(2), T.ARRAY),
    ],
)  # fmt: skip
def test_a_scalar_gets_the_type_that_readers_expect(value: Any, expected: ValueType) -> None:
    assert type_of(value) is expected
    assert encode_pair("k", value)[9:13] == expected.to_bytes(4, "little")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1, 2], T.INT32), ([1, 1 << 31], T.UINT32), ([-1, 1 << 31], T.INT64), ([1 << 63], T.UINT64),
        ([0.5, 1], T.FLOAT32), ([True], T.BOOL), (["a"], T.STRING), ([], T.STRING), ([[1]], T.ARRAY),
        (np.zeros(1, np.int16), T.INT16), (np.zeros(1, ">f8"), T.FLOAT64), (TypedList(T.ARRAY), T.ARRAY),
        ([np.int64(3)], T.INT32),
    ],
)  # fmt: skip
def test_an_array_gets_the_type_of_its_elements(value: Any, expected: ValueType) -> None:
    assert encode_pair("k", value)[13:17] == expected.to_bytes(4, "little")


@pytest.mark.parametrize(
    "value",
    [
        None, {}, object(), b"x", [None], [1, "a"], [True, 1], 1 << 64, -(1 << 63) - 1, [1 << 64],
        [-1, 1 << 63], 1e300, [1e300], "\ud800", np.zeros((2, 2)), np.array(["a"]), np.complex64(1), [b"x"],
    ],
)  # fmt: skip
def test_what_gguf_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(UsageError):
        encode_pair("k", value)


@pytest.mark.parametrize(
    ("value", "forced"),
    [(5, T.BOOL), (256, T.UINT8), (-1, T.UINT32), ("x", T.UINT32), (1, T.STRING), (1, T.ARRAY)],
)
def test_a_value_that_does_not_fit_the_asked_type_is_refused(value: Any, forced: ValueType) -> None:
    with pytest.raises(UsageError):
        encode_pair("k", value, forced)


def test_lists_nested_too_deep_are_refused() -> None:
    value: list[Any] = [1]
    for _ in range(9):
        value = [value]
    with pytest.raises(UsageError, match="deeper"):
        encode_pair("k", value)


@pytest.mark.parametrize("key", ["", "a\0", "../k", "a\nb"])
def test_a_bad_key_is_refused(key: str) -> None:
    with pytest.raises(UsageError):
        encode_pair(key, 1)
