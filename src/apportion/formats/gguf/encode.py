"""Metadata values as bytes: the inverse of reading them.

The type of a value is, in this order: what the caller names for its key; the dtype of a NumPy scalar or
array, or the element type of a `TypedList`; else a rule that follows what readers of GGUF expect:
`bool` -> BOOL, `str` -> STRING, `float` -> FLOAT32 (rounded), `int` -> the first of UINT32, INT32, UINT64,
INT64 that holds it; in a list, `int` -> the first of INT32, UINT32, INT64, UINT64 that holds all.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from apportion.core.errors import UsageError
from apportion.formats.gguf.values import DTYPES, MAX_ARRAY_DEPTH, SCALARS, TypedList, ValueType
from apportion.formats.names import why_not_a_name

_TYPE_OF_DTYPE = {dtype: value_type for value_type, dtype in DTYPES.items()}
_SCALAR_ORDER = (ValueType.UINT32, ValueType.INT32, ValueType.UINT64, ValueType.INT64)
_ARRAY_ORDER = (ValueType.INT32, ValueType.UINT32, ValueType.INT64, ValueType.UINT64)
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


def encode_pair(key: str, value: Any, value_type: ValueType | None = None) -> bytes:
    """One metadata pair: key, type, value.

    Raises:
        UsageError: GGUF cannot hold it, or not as `value_type`.
    """
    if reason := why_not_a_name(key):
        raise UsageError(f"metadata key {key[:80]!a} is refused", reason)
    try:
        chosen = type_of(value) if value_type is None else value_type
        return encode_string(key) + _U32.pack(chosen) + _encode_value(value, chosen)
    except (TypeError, ValueError, ArithmeticError, struct.error) as error:
        raise UsageError(
            f"metadata {key!r} cannot be written",
            str(error),
            "give a plain value, a NumPy array, or a list of values of one kind",
        ) from None


def encode_string(text: str) -> bytes:
    data = text.encode("utf-8")
    return _U64.pack(len(data)) + data


def type_of(value: Any) -> ValueType:
    """The type that a value is written as when the caller names none.

    Raises:
        TypeError, ValueError: GGUF has no type for it.
    """
    match value:
        case np.generic():
            return _type_of_dtype(value.dtype)
        case bool():
            return ValueType.BOOL
        case int():
            return _smallest([value], _SCALAR_ORDER)
        case float():
            return ValueType.FLOAT32
        case str():
            return ValueType.STRING
        case np.ndarray() | list() | tuple():
            return ValueType.ARRAY
    raise TypeError(f"a {type(value).__name__} is no metadata value")


def _type_of_dtype(dtype: np.dtype[Any]) -> ValueType:
    try:
        return _TYPE_OF_DTYPE[dtype.newbyteorder("<")]
    except KeyError:
        raise TypeError(f"there is no value type for {dtype}") from None


def _smallest(values: Sequence[int], order: tuple[ValueType, ...]) -> ValueType:
    low, high = min(values), max(values)
    for value_type in order:
        limits = np.iinfo(DTYPES[value_type].str)
        if limits.min <= low and high <= limits.max:
            return value_type
    raise ValueError("an integer needs more than 64 bits")


def _encode_value(value: Any, value_type: ValueType) -> bytes:
    if value_type is ValueType.STRING:
        if not isinstance(value, str):
            raise TypeError(f"a {type(value).__name__} is no string")
        return encode_string(value)
    if value_type is ValueType.ARRAY:
        return _encode_array(value, 1)
    if isinstance(value, np.generic):
        value = value.item()
    if value_type is ValueType.BOOL and value not in (0, 1):
        raise ValueError(f"{value!r} is neither true nor false")
    return SCALARS[value_type].pack(value)


def _encode_array(values: Any, depth: int) -> bytes:
    if depth > MAX_ARRAY_DEPTH:
        raise ValueError(f"arrays lie deeper than {MAX_ARRAY_DEPTH}")
    if isinstance(values, np.ndarray):
        return _encode_numbers(values, _type_of_dtype(values.dtype))
    if not isinstance(values, list | tuple):
        raise TypeError(f"a {type(values).__name__} is no array")
    element = values.element if isinstance(values, TypedList) else _element_type(values)
    head = _U32.pack(element) + _U64.pack(len(values))
    if element is ValueType.ARRAY:
        return head + b"".join(_encode_array(value, depth + 1) for value in values)
    if element is ValueType.STRING:
        return head + b"".join(_encode_value(value, element) for value in values)
    with np.errstate(over="raise"):
        return _encode_numbers(np.array(values).astype(DTYPES[element]), element)


def _encode_numbers(values: np.ndarray[Any, Any], element: ValueType) -> bytes:
    if values.ndim != 1:
        raise ValueError(f"an array of {values.ndim} dimensions; only lists of numbers can be written")
    head = _U32.pack(element) + _U64.pack(len(values))
    return head + values.astype(DTYPES[element], copy=False).tobytes()


def _element_type(values: Sequence[Any]) -> ValueType:
    """The one type for all elements of a plain list; an empty list counts as strings."""
    kinds = {_kind(value) for value in values}
    if kinds == {int, float}:
        kinds = {float}
    if len(kinds) > 1:
        raise TypeError(f"a list mixes {', '.join(sorted(kind.__name__ for kind in kinds))}")
    match kinds.pop() if kinds else str:
        case t if t is int:
            return _smallest([int(value) for value in values], _ARRAY_ORDER)
        case t if t is list:
            return ValueType.ARRAY
        case t:
            return {bool: ValueType.BOOL, float: ValueType.FLOAT32, str: ValueType.STRING}[t]


def _kind(value: Any) -> type:
    if isinstance(value, np.generic):
        value = value.item()
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind
    if isinstance(value, list | tuple | np.ndarray):
        return list
    raise TypeError(f"a {type(value).__name__} is no metadata value")
