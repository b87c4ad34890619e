"""A bar of bytes on the terminal; nothing at all where there is no terminal to draw on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
