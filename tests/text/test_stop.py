from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.core.errors import LimitExceeded, UsageError
from apportion.text.stop import StopStrings

LETTERS = "ab🚀é"


def run(stops: list[str], deltas: list[str]) -> tuple[str, str | None]:
    """Everything shown, and the stop string that was found."""
    watch, shown = StopStrings(stops), ""
    for delta in deltas:
        safe, hit = watch.feed(delta)
        shown += safe
        if hit:
            return shown, watch.hit
    return shown + watch.flush(), None


@settings(max_examples=120, deadline=None)
@given(
    stops=st.lists(st.text(LETTERS, min_size=1, max_size=4), max_size=4),
    deltas=st.lists(st.text(LETTERS, max_size=5), max_size=12),
)
def test_what_is_shown_is_the_text_before_the_first_stop_string(stops: list[str], deltas: list[str]) -> None:
    text = "".join(deltas)
    places = [text.index(stop) for stop in stops if stop in text]
    shown, hit = run(stops, deltas)
    if not places:
        assert (shown, hit) == (text, None)
        return
    assert hit is not None
    assert hit in stops
    # Found as soon as any stop string is whole: nothing before that has one.
    assert text.startswith(shown + hit)
    assert not any(stop in shown for stop in stops)


@settings(max_examples=120, deadline=None)
@given(
    stops=st.lists(st.text(LETTERS, min_size=1, max_size=4), min_size=1, max_size=4),
    deltas=st.lists(st.text(LETTERS, max_size=3), max_size=12),
)
def test_no_text_is_held_back_longer_than_needed(stops: list[str], deltas: list[str]) -> None:
    watch, text, shown = StopStrings(stops), "", ""
    for delta in deltas:
        safe, hit = watch.feed(delta)
        if hit:
            return
        text, shown = text + delta, shown + safe
        held = text[len(shown) :]
        assert text == shown + held
        assert not held or any(stop.startswith(held) for stop in stops)


def test_a_stop_string_is_found_across_deltas() -> None:
    assert run(["</answer>"], ["42 </", "ans", "wer", "> more"]) == ("42 ", "</answer>")


def test_a_beginning_that_leads_nowhere_is_shown_after_all() -> None:
    watch = StopStrings(["</answer>"])
    assert watch.feed("a </ans") == ("a ", False)
    assert watch.feed("x") == ("</ansx", False)
    assert watch.feed("<") == ("", False)
    assert watch.flush() == "<"


def test_the_stop_string_that_begins_first_wins_and_then_the_longest() -> None:
    assert run(["b", "ab"], ["xaby"]) == ("x", "ab")
    assert run(["ab", "abc"], ["xabcy"]) == ("x", "abc")
    assert run(["ab", "abc"], ["xab", "c"]) == ("x", "ab")


def test_a_stop_string_that_overlaps_itself_is_found() -> None:
    assert run(["aab"], ["a", "a", "a", "b"]) == ("a", "aab")


def test_nothing_is_shown_after_a_hit() -> None:
    watch = StopStrings(["x"])
    assert watch.feed("axb") == ("a", True)
    assert watch.feed("c") == ("", True)
    assert watch.flush() == ""


def test_without_stop_strings_everything_is_shown_at_once() -> None:
    assert StopStrings([]).feed("abc") == ("abc", False)


@pytest.mark.parametrize("stops", ["abc", [""], ["a", ""], [None], [b"a"]])
def test_what_is_no_list_of_texts_is_a_usage_error(stops: object) -> None:
    with pytest.raises(UsageError):
        StopStrings(stops)  # type: ignore[arg-type]


def test_limits_are_16_strings_of_256_bytes() -> None:
    StopStrings([chr(65 + place) for place in range(16)])
    StopStrings(["é" * 128])
    with pytest.raises(LimitExceeded, match="too many"):
        StopStrings([chr(65 + place) for place in range(17)])
    with pytest.raises(LimitExceeded, match="too long"):
        StopStrings(["é" * 129])
