"""Reading messages from a person, or from a pipe: lines, blocks, history."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import click

BLOCK = '"""'
PROMPT, MORE = ">>> ", "... "
MAX_HISTORY = 1000


class LineReader:
    """Reads one message at a time. A trailing backslash continues a line, `\"\"\"` opens and closes a block.

    Args:
        interactive: show prompts, and edit with readline where stdin and stdout are the terminal.
        history: file of earlier lines; None keeps none.
    """

    def __init__(self, interactive: bool, history: Path | None) -> None:
        self._interactive = interactive
        self._edits = interactive and sys.stdin.isatty() and sys.stdout.isatty()
        self._history = history if self._edits else None
        if self._history is not None:
            recall(self._history)

    def read(self) -> str:
        """The next message.

        Raises:
            EOFError: there is none.
            KeyboardInterrupt: Ctrl-C; what was typed is forgotten.
        """
        line = self._line(PROMPT)
        if line.lstrip().startswith(BLOCK):
            return self._block(line.lstrip().removeprefix(BLOCK))
        lines = [line]
        with suppress(EOFError):  # what was typed until then counts
            while lines[-1].endswith("\\"):
                lines[-1] = lines[-1][:-1]
                lines.append(self._line(MORE))
        return "\n".join(lines)

    def close(self) -> None:
        """Keep the history for the next time."""
        if self._history is not None:
            keep(self._history)

    def _block(self, line: str) -> str:
        lines = []
        with suppress(EOFError):  # it closes the block as well
            while not line.rstrip().endswith(BLOCK):
                lines.append(line)
                line = self._line(MORE)
            lines.append(line.rstrip().removesuffix(BLOCK))
        return "\n".join(lines).strip("\n")

    def _line(self, prompt: str) -> str:
        if self._edits:
            return input(prompt)
        if self._interactive:
            click.echo(prompt, nl=False, err=True)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.removesuffix("\n")


def history_file() -> Path:
    """Where the lines that were typed in chats are kept."""
    import platformdirs

    return platformdirs.user_data_path("apportion", appauthor=False) / "chat_history"


def recall(path: Path) -> None:
    try:
        import readline
    except ImportError:  # not on every system; lines can be read without it
        return
    readline.clear_history()
    readline.set_history_length(MAX_HISTORY)
    if path.is_file():
        readline.read_history_file(path)


def keep(path: Path) -> None:
    try:
        import readline
    except ImportError:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # What people type is theirs: nobody else may read it.
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    readline.write_history_file(path)
