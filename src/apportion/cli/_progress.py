"""Bars on the terminal; nothing at all where there is no terminal to draw on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@contextmanager
def byte_bar(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """Yields `report(bytes done, bytes in all)`, or None when nothing would be seen.

    A total of 0 means not known yet. The bar leaves the screen when the block ends.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=None)
        before = 0

        def report(done: int, total: int) -> None:
            nonlocal before
            if done < before:
                progress.reset(task)
            before = done
            progress.update(task, completed=done, total=total or None)

        yield report


PHASES = {
    "pull": "Pulling",
    "load": "Loading",
    "prefill": "Reading the prompt",
    "eval": "Evaluating",
    "batch": "Answering",
    "bench": "Measuring",
    "make": "Making routes",
    "record": "Recording routes",
    "replay": "Replaying",
    "seeds": "Simulating",
}
LONG_PREFILL = 512  # tokens; shorter prompts are read before a bar could be seen


class PhaseBars:
    """What the engine reports while pulling, loading and reading a prompt, as one bar after the other.

    Call it with (phase, done, total, remark), or use it as a context that clears the screen at its end. Draws
    on stderr, only where that is a terminal; rich is imported with the first bar.
    """

    def __init__(self) -> None:
        self._visible = sys.stderr.isatty()
        self._phase = ""
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __call__(self, phase: str, done: int, total: int, remark: str = "") -> None:
        if not self._visible or (phase == "prefill" and total <= LONG_PREFILL):
            return
        finished = bool(total) and done >= total
        if phase != self._phase or self._bar is None:
            self.close()
            if finished:  # said once more at its end, or over at once: there is nothing to watch
                return
            self._open(phase, total)
        assert self._bar is not None
        assert self._task is not None
        self._bar.update(self._task, completed=done, total=total or None, remark=remark)
        if finished:
            self.close()

    def _open(self, phase: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        amount = DownloadColumn() if phase in ("pull", "load") else MofNCompleteColumn()
        columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
        remark = TextColumn("{task.fields[remark]}")
        self._bar = Progress(*columns, remark, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(PHASES[phase], total=total or None, remark="")
        self._phase = phase
        self._bar.start()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None
        self._phase = ""

    def __enter__(self) -> PhaseBars:
        return self

    def __exit__(self, *_failure: object) -> None:
        self.close()
