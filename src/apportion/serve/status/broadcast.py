"""Snapshots for everybody who watches: each is made once, and who does not keep up is let go."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from apportion.core.errors import Overloaded
from apportion.serve.status.snapshot import Snapshot

EVERY_S = 1.0
MOST_VIEWERS = 64
RETRY_S = 10
MOST_BEHIND = 5  # snapshots that a viewer has not taken


class Viewer:
    """Somebody who watches."""

    def __init__(self) -> None:
        self.waiting: deque[Snapshot] = deque()
        self.came = asyncio.Event()
        self.is_over = False

    def show(self, snapshot: Snapshot) -> None:
        self.waiting.append(snapshot)
        self.came.set()

    def end(self) -> None:
        self.is_over = True
        self.waiting.clear()
        self.came.set()


class Broadcast:
    """Makes a snapshot every second as long as somebody watches. For the event loop.

    Args:
        make: a snapshot.
        is_over: whether everybody shall go: the server stops.
    """

    def __init__(
        self, make: Callable[[], Snapshot], is_over: Callable[[], bool], every_s: float = EVERY_S
    ) -> None:
        self._make = make
        self._is_over = is_over
        self._every_s = every_s
        self._viewers: list[Viewer] = []
        self._showing: asyncio.Task[None] | None = None

    @property
    def num_viewers(self) -> int:
        return len(self._viewers)

    def join(self) -> Viewer:
        """Watch from now on; the first snapshot is there at once.

        Raises:
            Overloaded: too many watch.
        """
        if len(self._viewers) >= MOST_VIEWERS:
            raise Overloaded(
                "too many watch the server",
                hint="close another page that shows it",
                retry_after_s=RETRY_S,
                limit=MOST_VIEWERS,
            )
        viewer = Viewer()
        viewer.show(self._make())
        self._viewers.append(viewer)
        if self._showing is None or self._showing.done():
            self._showing = asyncio.get_running_loop().create_task(self._show())
        return viewer

    async def watch(self, viewer: Viewer) -> AsyncIterator[Snapshot]:
        """What a viewer is shown, until it leaves, falls behind, or the server stops."""
        try:
            while not viewer.is_over:
                while viewer.waiting:
                    yield viewer.waiting.popleft()
                viewer.came.clear()
                if not viewer.is_over:
                    await viewer.came.wait()
        finally:
            if viewer in self._viewers:
                self._viewers.remove(viewer)

    async def _show(self) -> None:
        while self._viewers:
            await asyncio.sleep(self._every_s)
            if self._is_over():
                for viewer in self._viewers:
                    viewer.end()
                return
            if self._viewers:
                snapshot = self._make()
                for viewer in [*self._viewers]:
                    self._show_to(viewer, snapshot)

    def _show_to(self, viewer: Viewer, snapshot: Snapshot) -> None:
        if len(viewer.waiting) < MOST_BEHIND:
            viewer.show(snapshot)
        else:
            viewer.end()
            self._viewers.remove(viewer)
