from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.core.errors import UsageError
from apportion.core.units import (
    MAX_BYTES,
    MAX_SECONDS,
    GiB,
    KiB,
    MiB,
    TiB,
    format_bytes,
    format_duration,
    parse_bytes,
    parse_duration,
)

SIZES = {
    "0": 0,
    "1024": 1024,
    "7b": 7,
    "12 bytes": 12,
    "4GiB": 4 * GiB,
    "4gib": 4 * GiB,
    "512 MB": 512_000_000,
    "1.5G": 3 * GiB // 2,
    "2K": 2 * KiB,
    "2KB": 2000,
    ".5MiB": MiB // 2,
    "1.MiB": MiB,
    "3T": 3 * TiB,
    "1TB": 10**12,
    " 8 GiB ": 8 * GiB,
    "0.3KiB": 307,  # 307.2: a fraction of a byte is dropped
    str(MAX_BYTES): MAX_BYTES,
}


@pytest.mark.parametrize("text", SIZES)
def test_a_size_is_read(text: str) -> None:
    assert parse_bytes(text) == SIZES[text]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "GiB",
        "-1",
        "-4GiB",
        "nan",
        "inf",
        "1e9",
        "1,5G",
        "4GiBs",
        "4 X",
        "0x10",
        "1..5",
        "4G4",
        "\u0664GiB",
    ],
)
def test_what_is_no_size_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_bytes(text)
    assert "4GiB" in caught.value.hint


@pytest.mark.parametrize("text", [str(MAX_BYTES + 1), "9999999999TiB", "9" * 39])
def test_a_size_past_63_bits_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="too large"):
        parse_bytes(text)


def test_endless_text_is_refused_and_not_echoed() -> None:
    with pytest.raises(UsageError) as caught:
        parse_bytes("1" * 1_000_000)
    assert len(str(caught.value)) < 300


def test_a_negative_size_says_so() -> None:
    with pytest.raises(UsageError, match="never negative"):
        parse_bytes("-1GiB")


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.98 KiB"),
        (1024, "1 KiB"),
        (1023 * KiB, "1 MiB"),
        (98_362_432, "93.8 MiB"),
        (4 * GiB, "4 GiB"),
        (3 * GiB // 2, "1.5 GiB"),
        (5000 * TiB, "5000 TiB"),
        (-3 * MiB, "-3 MiB"),
    ],
)
def test_bytes_are_written_with_three_digits(nbytes: int, text: str) -> None:
    assert format_bytes(nbytes) == text


@given(st.integers(0, 2**62))
def test_written_bytes_are_read_back_within_half_a_percent(nbytes: int) -> None:
    back = parse_bytes(format_bytes(nbytes))
    assert abs(back - nbytes) <= 0.0052 * nbytes


@given(st.integers(0, MAX_BYTES))
def test_plain_numbers_are_bytes(nbytes: int) -> None:
    assert parse_bytes(str(nbytes)) == nbytes


@given(st.text(max_size=60))
def test_any_text_is_a_size_or_a_usage_error(text: str) -> None:
    try:
        assert 0 <= parse_bytes(text) <= MAX_BYTES
    except UsageError as error:
        assert error.what


DURATIONS = {
    "0": 0.0,
    "90": 90.0,
    "30s": 30.0,
    "250ms": 0.25,
    "1h30m": 5400.0,
    "1h 30min": 5400.0,
    "1.5h": 5400.0,
    "2d": 172_800.0,
    "10us": 1e-5,
    "10µs": 1e-5,
    "3ns": 3e-9,
    "1m0.5s": 60.5,
    "1 day 2 hours 3 sec": 93_603.0,
    "1H": 3600.0,
}


@pytest.mark.parametrize("text", DURATIONS)
def test_a_duration_is_read(text: str) -> None:
    assert parse_duration(text) == DURATIONS[text]


@pytest.mark.parametrize(
    "text",
    ["", "s", "-5s", "nan", "inf", "1h30", "30m1h", "5s5s", "1 fortnight", "1h,30m", "1e3s", "5s!", "1" * 60],
)
def test_what_is_no_duration_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_duration(text)
    assert "1h30m" in caught.value.hint


def test_a_duration_of_more_than_a_century_is_refused() -> None:
    with pytest.raises(UsageError, match="too long"):
        parse_duration("40000d")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (3e-9, "3ns"),
        (2.5e-5, "25us"),
        (0.25, "250ms"),
        (0.9996, "1s"),
        (1.5, "1.5s"),
        (59.96, "1m"),
        (90, "1m30s"),
        (7500, "2h5m"),
        (3 * 86_400 + 4 * 3600 + 5, "3d4h"),
        (86_400 + 59, "1d"),
        (-1.5, "-1.5s"),
        (math.inf, "never"),
        (math.nan, "unknown"),
    ],
)
def test_durations_are_written_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(1e-9, MAX_SECONDS * 0.99))
def test_written_durations_are_read_back_within_five_percent(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=0.05)


@given(st.text(max_size=60))
def test_any_text_is_a_duration_or_a_usage_error(text: str) -> None:
    try:
        assert 0 <= parse_duration(text) <= MAX_SECONDS
    except UsageError as error:
        assert error.what
