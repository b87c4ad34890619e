"""JSON from untrusted files."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.core.errors import BadFile, DiskFault, LimitExceeded, NotFound
from apportion.formats.bounded_json import json_depth, parse_json_bounded, read_json_bounded

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('[]{}"\\x'),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('[{"\\', max_size=3), inner, max_size=3)
    ),
    max_leaves=20,
)


def depth_of(value: object) -> int:
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 0


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_depth_is_counted_outside_of_strings(value: object) -> None:
    data = json.dumps(value).encode()
    assert json_depth(data, -1) == depth_of(value)
    assert parse_json_bounded(data, "x") == value


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60) | st.text('{}[]",:\\u0dn1e-. ', max_size=40).map(str.encode))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    try:
        value = parse_json_bounded(data, "x")
    except (BadFile, LimitExceeded):
        return
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"", b" ", b"{", b"[1,]", b"{'a': 1}", b"NaN", b"[Infinity]", b"-Infinity", b"1e999", b"-1e999",
        b"\xff", b'"\xed\xa0\x80"', b'"\\ud800"', b'{"\\udfff": 1}', b"\xef\xbb\xbf{}", b"9" * 5000,
        b'{"a":1,"a":1}',
        b'{"b":{"a":1,"c":2,"a":3}}', b"{}{}", b"\x00{}", b'"\x01"', b"0x1", b"01", b"+1", b"tru", b"]", b"}",
    ],
)  # fmt: skip
def test_what_is_not_strict_json_is_refused(data: bytes) -> None:
    with pytest.raises(BadFile):
        parse_json_bounded(data, "some.json")


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert parse_json_bounded(b'"\\ud83d\\ude00"', "x") == "\U0001f600"


@pytest.mark.parametrize("data", [b"[" * 65 + b"]" * 65, b"[" * 3_000_000, b'{"a":' * 200_000])
def test_depth_is_limited_at_once(data: bytes) -> None:
    start = time.process_time()
    with pytest.raises(LimitExceeded, match="nested too deep"):
        parse_json_bounded(data, "x")
    assert time.process_time() - start < 1


def test_escaped_quotes_without_end_take_linear_time() -> None:
    start = time.process_time()
    with pytest.raises(BadFile):
        parse_json_bounded(b'["' + b'\\"' * 2_000_000 + b"[" * 100, "x")
    assert time.process_time() - start < 1


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(LimitExceeded, match="too large"):
        read_json_bounded(path)


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_json_bounded(tmp_path / "config.json")


def test_a_file_without_permission_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("{}")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(DiskFault):
        read_json_bounded(path)


def test_limits_can_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[[1]]")
    assert read_json_bounded(path, 5, 2) == [[1]]
    with pytest.raises(LimitExceeded):
        read_json_bounded(path, 4, 2)
    with pytest.raises(LimitExceeded):
        read_json_bounded(path, 5, 1)
