"""Showing an answer while it comes: its text on stdout, reasoning dimmed on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from apportion.cli._output import visible

if TYPE_CHECKING:
    from apportion.engine import Stream
    from apportion.text.answer import Answer
    from apportion.text.answer_parts import AnswerParts, Part


class Speaker:
    """Shows one answer.

    Args:
        parts: tells text and reasoning apart.
        silent: nothing is shown; `to_stderr`: text goes there, too.
    """

    def __init__(self, parts: AnswerParts, *, silent: bool = False, to_stderr: bool = False) -> None:
        self._parts = parts
        self._silent = silent
        self._to_stderr = to_stderr
        self._found: list[Part] = []
        self._reasons = False

    def follow(self, stream: Stream) -> bool:
        """Show the answer to its end; True if Ctrl-C ended it."""
        interrupted = False
        try:
            for delta in stream:
                self._show(self._parts.feed(delta.text))
        except KeyboardInterrupt:
            stream.close()
            interrupted = True
        self._show(self._parts.finish())
        self._end_reasoning()
        return interrupted

    @property
    def answer(self) -> Answer:
        """All of it so far."""
        from apportion.text.answer import answer_of

        return answer_of(self._found)

    def _show(self, parts: list[Part]) -> None:
        from apportion.text.answer_parts import Reasoning, Text

        self._found += parts
        if self._silent:
            return
        for part in parts:
            if isinstance(part, Reasoning):
                self._reasons = True
                click.secho(visible(part.text, err=True), nl=False, err=True, dim=True)
            elif isinstance(part, Text):
                self._end_reasoning()
                click.echo(visible(part.text, err=self._to_stderr), nl=False, err=self._to_stderr)

    def _end_reasoning(self) -> None:
        if self._reasons:
            click.echo("\n", err=True)
        self._reasons = False


def reasoning_of(answer: Answer) -> dict[str, Any]:
    """For `--json`: what the model thought, where it did."""
    return {"reasoning": answer.reasoning} if answer.reasoning else {}
