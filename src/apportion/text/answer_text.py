"""The text of an answer as it arrives, and how it is read: from the front, by generators that stop wherever
they have to see more.

A reading yields where the text that has come does not tell how to go on. What it makes of the text it hands
out part by part.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from apportion.text.answer_parts import CallArguments, CallBegins, Mismatch, Part, Reasoning, Text
from apportion.text.json_text import JsonText

if TYPE_CHECKING:
    from apportion.text.reasoning import ReasoningMarks
    from apportion.text.tool_calls import ToolFormat
    from apportion.text.tools import Tool

T = TypeVar("T")
Reading: TypeAlias = Generator[None, None, T]
SPACE = " \t\n\r"
MAX_WORD = 256


class NotACall(Exception):
    """What was read as a call is none.

    Args:
        why: one clause; empty where it only looked like one, and is nothing to report.
    """


class AnswerText:
    """What has come and was not read yet, and the parts that came of what was.

    Attributes:
        rest: to be read.
        is_ended: nothing follows the rest.
        num_calls: that have begun.
    """

    def __init__(self) -> None:
        self.rest = ""
        self.is_ended = False
        self.num_calls = 0
        self._raw: list[str] = []  # what was read since `mark`
        self._calls_at_mark = 0
        self._is_marked = False
        self._parts: list[Part] = []
        self._space = ""  # said, but held back until it is known what follows it
        self._at_border = False

    def add(self, text: str) -> None:
        self.rest += text

    def taken_parts(self) -> list[Part]:
        """The parts so far, neighbours of a kind joined; they are forgotten."""
        if self.is_ended and self._space:
            self._parts.append(Text(self._space))
            self._space = ""
        parts, self._parts = joined(self._parts), []
        return parts

    @property
    def is_over(self) -> bool:
        """Whether everything was read, and nothing will come."""
        return self.is_ended and not self.rest

    # Reading.

    def take(self, count: int) -> str:
        """The next characters, which must have come."""
        taken, self.rest = self.rest[:count], self.rest[count:]
        if self._is_marked:
            self._raw.append(taken)
        return taken

    def mark(self, before: str = "") -> None:
        """Remember what is read from here on, behind what was read already."""
        self._raw, self._calls_at_mark, self._is_marked = [before], self.num_calls, True

    def unmark(self) -> str:
        """What was read since `mark`; it is not remembered any longer."""
        raw, self._raw, self._is_marked = "".join(self._raw), [], False
        return raw

    def skip_space(self) -> Reading[None]:
        """Go on to what is no white space, or to the end."""
        while True:
            self.take(len(self.rest) - len(self.rest.lstrip(SPACE)))
            if self.rest or self.is_ended:
                return
            yield

    def sees(self, *marks: str) -> Reading[str]:
        """Which of the marks comes next; empty for none. The longest, where several do."""
        while True:
            if not self.is_ended and any(mark.startswith(self.rest) and mark != self.rest for mark in marks):
                yield
                continue
            return max((mark for mark in marks if self.rest.startswith(mark)), key=len, default="")

    def up_to(self, marks: Sequence[str], passed: Callable[[str], None]) -> Reading[str]:
        """Read up to the first of the marks and return it; empty where none comes. What stands before it is
        passed on as it comes, never with half of a mark.
        """
        while True:
            found = min(
                ((place, -len(mark), mark) for mark in marks if (place := self.rest.find(mark)) >= 0),
                default=None,
            )
            if found is not None:
                passed(self.take(found[0]))
                return found[2]
            keep = 0 if self.is_ended else open_suffix(self.rest, marks)
            passed(self.take(len(self.rest) - keep))
            if self.is_ended:
                return ""
            yield

    def until(self, marks: Sequence[str], passed: Callable[[str], None]) -> Reading[str]:
        """As `up_to`; the mark is read, too."""
        found = yield from self.up_to(marks, passed)
        self.take(len(found))
        return found

    def word(self, ends: Sequence[str], what: str) -> Reading[str]:
        """A short text up to one of the marks behind it.

        Raises:
            NotACall: none comes, or only after more than 256 characters.
        """
        longest = max(map(len, ends))
        while True:
            places = [place for mark in ends if (place := self.rest.find(mark)) >= 0]
            if places and min(places) <= MAX_WORD:
                return self.take(min(places))
            if len(self.rest) > MAX_WORD + longest:
                self.take(MAX_WORD)
                raise NotACall(f"{what} does not end")
            if self.is_ended:
                self.take(len(self.rest))
                raise NotACall(f"it is cut off in {what}")
            yield

    def through(self, *marks: str) -> Reading[str]:
        """Read one of the marks, which must come behind white space, or end the answer.

        Raises:
            NotACall: something else comes.
        """
        yield from self.skip_space()
        mark = yield from self.sees(*marks)
        if not mark and not self.is_over:
            raise NotACall(f"something else than {' or '.join(marks)} follows")
        self.take(len(mark))
        return mark

    def json(self, passed: Callable[[str], None]) -> Reading[None]:
        """Read one JSON value, passed on as it comes.

        Raises:
            NotACall: it is no JSON, or is cut off.
        """
        value = JsonText()
        while True:
            passed(self.take(value.feed(self.rest)))
            if value.is_done:
                return
            if value.broken:
                raise NotACall(f"its JSON is malformed: {value.broken}")
            if self.is_ended:
                raise NotACall("its JSON is cut off")
            yield

    # What comes of it.

    def say(self, text: str) -> None:
        """Text for the reader. White space beside calls and behind reasoning is left out."""
        if self._at_border:
            text = text.lstrip(SPACE)
        if not text:
            return
        self._at_border = False
        body = text.rstrip(SPACE)
        if body:
            self._parts.append(Text(self._space + body))
            self._space = ""
        self._space += text[len(body) :]

    def border(self) -> None:
        """White space here is no text for the reader."""
        self._space, self._at_border = "", True

    def begin_call(self, name: str, call_id: str) -> None:
        self.border()
        self._parts.append(CallBegins(self.num_calls, call_id, name))
        self.num_calls += 1

    def arguments(self, text: str) -> None:
        """More of the last call's."""
        if text:
            self._parts.append(CallArguments(self.num_calls - 1, text))

    def reason(self, text: str) -> None:
        if text:
            self._parts.append(Reasoning(text))

    def give_up(self, error: NotACall) -> None:
        """What was read since `mark` is no call, or one that breaks off: it is passed on as text, unless
        arguments have gone out already.
        """
        raw = self.unmark()
        if self.num_calls == self._calls_at_mark:
            self.say(raw)
        else:
            self._at_border = False  # what follows belongs to the call
        if why := str(error):
            self._parts.append(Mismatch(raw, why))


def open_suffix(text: str, marks: Sequence[str]) -> int:
    """Length of the longest end of `text` that a mark may begin with."""
    longest = max(map(len, marks), default=1) - 1
    for size in range(min(longest, len(text)), 0, -1):
        end = text[-size:]
        if any(mark.startswith(end) for mark in marks):
            return size
    return 0


def joined(parts: Sequence[Part]) -> list[Part]:
    """Neighbours of a kind, and of the same call, as one."""
    found: list[Part] = []
    for part in parts:
        last = found[-1] if found else None
        if isinstance(part, Text) and isinstance(last, Text):
            found[-1] = Text(last.text + part.text)
        elif isinstance(part, Reasoning) and isinstance(last, Reasoning):
            found[-1] = Reasoning(last.text + part.text)
        elif isinstance(part, CallArguments) and isinstance(last, CallArguments):
            found[-1] = CallArguments(part.index, last.text + part.text)
        else:
            found.append(part)
    return found


def read_answer(
    answer: AnswerText,
    tool_format: ToolFormat | None,
    tools: Sequence[Tool],
    reasoning: ReasoningMarks | None,
    is_open: bool,
) -> Reading[None]:
    """A whole answer: reasoning, if there is any, and then text and calls."""
    if reasoning is not None:
        yield from read_reasoning(answer, reasoning, is_open)
    if tool_format is not None:
        yield from tool_format.read(answer, {tool.name: tool for tool in tools})
    yield from answer.until((), answer.say)


def read_reasoning(answer: AnswerText, marks: ReasoningMarks, is_open: bool) -> Reading[None]:
    """Reasoning at the beginning of an answer; white space at its ends is left out."""
    answer.mark()
    yield from answer.skip_space()
    if (yield from answer.sees(marks.begin)):
        answer.take(len(marks.begin))  # some models repeat what the prompt ends with
    elif not is_open:
        answer.say(answer.unmark())
        return
    answer.unmark()
    yield from answer.skip_space()
    held = ""

    def think(text: str) -> None:
        nonlocal held
        body = (held + text).rstrip(SPACE)
        answer.reason(body)
        held = (held + text)[len(body) :]

    yield from answer.until((marks.end,), think)
    answer.border()
