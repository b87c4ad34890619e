"""Reading what a reply held."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.bench.load.exchange import Reply
from apportion.bench.load.stream import UNFINISHED, events, seen, text_of


def wire(*values: object, end: str = "\n\n") -> bytes:
    return "".join(f"data: {json.dumps(value)}{end}" for value in values).encode()


def word(text: str, finish: str | None = None) -> dict:
    return {"choices": [{"delta": {"content": text}, "finish_reason": finish}]}


def reply(*pieces: tuple[float, bytes], status: int = 200, broken: str = "") -> Reply:
    return Reply(sent_s=10.5, status=status, pieces=list(pieces), ended_s=13.0, broken=broken)


@given(st.lists(st.integers(0, 200)), st.sampled_from(["\n\n", "\r\n\r\n"]))
def test_events_are_the_same_however_they_are_cut(cuts: list[int], end: str) -> None:
    whole = b": a comment" + end.encode() + wire({"a": 1}, {"b": "x: \n"}, end=end) + b"data: [DONE]\n\n"
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    pieces = [(float(number), whole[a:b]) for number, (a, b) in enumerate(pairwise(places))]
    assert [json.loads(data) for _, data in events(pieces)] == [{"a": 1}, {"b": "x: \n"}]


def test_an_event_has_the_time_of_the_piece_that_completed_it() -> None:
    data = wire({"a": 1}, {"b": 2})
    assert [at for at, _ in events([(1.0, data[:5]), (2.0, data[5:-1]), (3.0, data[-1:])])] == [2.0, 3.0]


def test_an_answer_has_its_times_from_the_beginning_of_the_run() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 2}}
    first = wire({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
    found = seen(
        0.25,
        reply(
            (10.6, first),
            (11.0, wire(word("a"))),
            (11.5, wire(word("b"))),
            (12.0, wire(word("c"), word("", "stop"), {"choices": [], "usage": usage})),
        ),
        10.0,
    )
    assert not found.failure
    assert (found.ttft_s, found.e2e_s) == (0.75, 1.75)  # from when it was due
    assert found.gaps_s == [0.5, 0.5]
    assert found.tpot_s == 0.25  # five tokens in three pieces of text
    assert (found.prompt_tokens, found.output_tokens, found.cached_tokens) == (7, 5, 2)
    assert (found.sent_s, found.ended_s) == (0.5, 3.0)


def test_tokens_are_counted_by_arrivals_where_the_server_does_not_count() -> None:
    found = seen(0.0, reply((11.0, wire(word("a"), word("b", "stop")))), 10.0)
    assert found.output_tokens == 2
    assert seen(0.0, reply((11.0, wire(word("a", "stop")))), 10.0).tpot_s is None


@pytest.mark.parametrize(
    ("came", "failure"),
    [
        (Reply(), UNFINISHED),
        (reply(broken="the connection broke off"), "the connection broke off"),
        (reply(status=429), "HTTP 429"),
        (reply((11.0, wire(word("a")))), "no end"),
        (reply((11.0, wire(word("", "stop")))), "no text"),
        (reply((11.0, b"data: {oops\n\n")), "no JSON"),
        (reply((11.0, wire(word("a"), {"error": {"message": "it broke"}}))), "error: it broke"),
        (reply((11.0, wire([1]))), "error: "),
    ],
)
def test_what_is_no_whole_answer_has_a_kind_of_failure(came: Reply, failure: str) -> None:
    assert seen(0.0, came, 10.0).failure == failure


def test_reasoning_and_calls_count_as_text() -> None:
    assert text_of({"delta": {"reasoning_content": "hm"}}) == "hm"
    assert text_of({"delta": {"content": None, "tool_calls": [{}]}})
    assert text_of({"text": "plain"}) == "plain"
    assert not text_of({"delta": {"role": "assistant", "content": None}})
