"""What a reply held, read when the run is over: which text came when, how many tokens it was, what failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import orjson

from apportion.bench.load.exchange import Reply
from apportion.bench.load.server import said

UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a request; times in seconds from the beginning of the run.

    Attributes:
        due_s: when it was to be sent; where clients wait for their answers, when it was.
        failure: what kind of; empty for a whole answer.
        text_s: when text came. A server may send several tokens at once.
        output_tokens: as the server counts them; where it does not, one for each time that text came.
        cached_tokens: of the prompt, that the server did not have to compute, as it says.
    """

    due_s: float
    sent_s: float
    ended_s: float
    failure: str = ""
    text_s: tuple[float, ...] = ()
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0

    @property
    def ttft_s(self) -> float:
        """To the first text from when the request was due: what it waited to be sent counts."""
        return self.text_s[0] - self.due_s

    @property
    def tpot_s(self) -> float | None:
        """Between tokens after the first, on average; None for an answer of one."""
        if self.output_tokens < 2:
            return None
        return (self.text_s[-1] - self.text_s[0]) / (self.output_tokens - 1)

    @property
    def gaps_s(self) -> list[float]:
        """Between one arrival of text and the next."""
        return [after - before for before, after in pairwise(self.text_s)]

    @property
    def e2e_s(self) -> float:
        return self.text_s[-1] - self.due_s


def seen(due_s: float, reply: Reply, zero_s: float) -> Seen:
    """Read a reply; one that never ended was given up.

    Args:
        due_s: from the beginning of the run, which was at `zero_s` on the reply's clock.
    """
    times = (due_s, reply.sent_s - zero_s, reply.ended_s - zero_s)
    if not reply.ended_s:
        return Seen(*times, failure=UNFINISHED)
    if reply.broken:
        return Seen(*times, failure=reply.broken)
    if reply.status != 200:
        return Seen(*times, failure=f"HTTP {reply.status}")
    return _read(times, reply, zero_s)


def _read(times: tuple[float, float, float], reply: Reply, zero_s: float) -> Seen:
    texts: list[float] = []
    usage: dict[str, Any] = {}
    finish = False
    for at_s, data in events(reply.pieces):
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            return Seen(*times, failure="no JSON")
        if not isinstance(event, dict) or event.get("error"):
            return Seen(*times, failure=f"error: {said(event)}"[:80])
        usage = event.get("usage") or usage
        for choice in event.get("choices") or ():
            finish = finish or bool(choice.get("finish_reason"))
            if text_of(choice):
                texts.append(at_s - zero_s)
    if not texts or not finish:
        return Seen(*times, failure="no end" if texts else "no text")
    return Seen(
        *times,
        text_s=tuple(texts),
        prompt_tokens=usage.get("prompt_tokens") or 0,
        output_tokens=usage.get("completion_tokens") or len(texts),
        cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
    )


def text_of(choice: dict[str, Any]) -> str | list[Any]:
    """Text of whatever kind, or parts of calls; empty where an event brings none."""
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return choice.get("text") or ""
    return (
        delta.get("content")
        or delta.get("reasoning_content")
        or delta.get("reasoning")
        or delta.get("tool_calls")
        or ""
    )


def events(pieces: Sequence[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    """The data of server-sent events, each with the time of the piece that completed it; comments and
    `[DONE]` are left out.
    """
    rest = b""
    for at_s, piece in pieces:
        *whole, rest = (rest + piece).replace(b"\r\n", b"\n").split(b"\n\n")
        for event in whole:
            lines = [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")]
            data = b"\n".join(lines)
            if data and data != b"[DONE]":
                yield at_s, data
