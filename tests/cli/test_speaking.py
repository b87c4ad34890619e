from __future__ import annotations

from collections.abc import Iterator

import pytest

from apportion.cli._speaking import Speaker, reasoning_of
from apportion.engine import Delta
from apportion.text.answer_parts import AnswerParts
from apportion.text.reasoning import MARKS


class Answered:
    """A stream that is there already, and may be interrupted after some deltas."""

    def __init__(self, text: str, interrupted_at: int | None = None) -> None:
        self._text = text
        self._interrupted_at = interrupted_at
        self.is_closed = False

    def __iter__(self) -> Iterator[Delta]:
        for place, letter in enumerate(self._text):
            if place == self._interrupted_at:
                raise KeyboardInterrupt
            yield Delta(letter)

    def close(self) -> None:
        self.is_closed = True


THOUGHT = "<think>\nHm.\n</think>\n\nYes.\n"


def test_text_goes_to_stdout_and_reasoning_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    speaker = Speaker(AnswerParts(reasoning=MARKS[0]))
    assert not speaker.follow(Answered(THOUGHT))  # type: ignore[arg-type]
    shown = capsys.readouterr()
    assert shown.out == "Yes.\n"
    assert shown.err == "Hm.\n\n"
    assert speaker.answer.text == "Yes.\n"
    assert reasoning_of(speaker.answer) == {"reasoning": "Hm."}


def test_a_silent_speaker_only_remembers(capsys: pytest.CaptureFixture[str]) -> None:
    speaker = Speaker(AnswerParts(), silent=True)
    speaker.follow(Answered("Yes."))  # type: ignore[arg-type]
    assert capsys.readouterr() == ("", "")
    assert speaker.answer.text == "Yes."
    assert reasoning_of(speaker.answer) == {}


def test_text_goes_where_the_result_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    Speaker(AnswerParts(), to_stderr=True).follow(Answered("Yes."))  # type: ignore[arg-type]
    assert capsys.readouterr() == ("", "Yes.")


def test_ctrl_c_closes_the_stream_and_keeps_what_came(capsys: pytest.CaptureFixture[str]) -> None:
    stream, speaker = Answered("Yes and no.", 3), Speaker(AnswerParts())
    assert speaker.follow(stream)  # type: ignore[arg-type]
    assert stream.is_closed
    assert speaker.answer.text == "Yes"
