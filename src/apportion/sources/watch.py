"""Progress of a download that someone else makes: how far the folder that it writes to has grown."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from apportion.sources.resolved import Progress
from apportion.sources.store import tree_nbytes

POLL_S = 0.2


@contextmanager
def watched(folder: Path, total: int, on_progress: Progress | None) -> Iterator[None]:
    """Report the folder's growth to `on_progress` from a thread until the block ends."""
    if on_progress is None:
        yield
        return
    ended = threading.Event()
    before = tree_nbytes(folder)

    def report() -> None:
        while not ended.wait(POLL_S):
            on_progress(min(max(tree_nbytes(folder) - before, 0), total), total)

    thread = threading.Thread(target=report, name="apportion-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
