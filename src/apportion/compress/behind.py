"""Work that goes on behind the caller's back, in order, on one thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Behind:
    """One thread. What goes wrong there is raised by `wait`."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "apportion-behind")
        self._pending: list[Future[None]] = []

    def then(self, work: Callable[[], None]) -> None:
        """Do this after what was begun before; returns at once."""
        self._pending.append(self._pool.submit(work))

    def wait(self) -> None:
        """Return when all is done; raises what went wrong first."""
        pending, self._pending = self._pending, []
        for future in pending:
            future.result()

    def close(self) -> None:
        """End the thread when its work is done, whatever came of it."""
        self._pool.shutdown()
