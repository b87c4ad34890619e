"""Tables on stdout. Names and values come from untrusted files: they are shown as they are, not as markup."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from apportion.cli._failures import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDTH = 160  # where there is no terminal to ask


def console() -> Console:
    """Prints to stdout, in words and tables that programs can read, too."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False)


def table(titles: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Collection[int] = ()) -> Table:
    """Facts, with a line below the titles; `numbers` are columns that end where their title ends."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    result = Table(box=SIMPLE_HEAD)
    for index, title in enumerate(titles):
        right = index in numbers
        result.add_column(Text(printable(title)), justify="right" if right else "left", overflow="fold")
    for row in rows:
        result.add_row(*(Text(printable(str(cell))) for cell in row))
    return result


def figures(titles: Sequence[str], rows: Iterable[Sequence[str]], words: Collection[str] = ()) -> Table:
    """Measurements, close together; columns whose title is among `words` begin where it begins."""
    from rich.table import Table

    result = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for title in titles:
        result.add_column(title, justify="left" if title in words else "right", no_wrap=True)
    for row in rows:
        result.add_row(*map(printable, row))
    return result
