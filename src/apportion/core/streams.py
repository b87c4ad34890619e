"""The streams of the process."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TextIO


def to_nowhere(stream: TextIO) -> None:
    """Whoever read the stream has left: nothing that writes to it or flushes it may fail now, least of all
    the interpreter at its end, which would make that the status of the process.
    """
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
