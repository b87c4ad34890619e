"""The watchdog: says what hangs, where something does.

Two things can: a step of the engines, in a computation or a read that does not come back, and the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from time import monotonic

from apportion.serve.notify import notify

LOOK_S = 1.0
DEEPEST = 6  # functions of a thread that are named

logger = logging.getLogger("apportion.serve")


class Watchdog:
    """A thread that looks on, every second.

    Args:
        patience_s: what takes longer is named in the log, and again each time it has taken twice as long.
        step_began_s: when the step that runs began, by the monotonic clock; None while none runs.
        requests: the ids of the requests that are being answered.
    """

    def __init__(
        self,
        patience_s: float,
        step_began_s: Callable[[], float | None],
        requests: Callable[[], Sequence[str]],
        look_s: float = LOOK_S,
    ) -> None:
        self._patience_s = patience_s
        self._step_began_s = step_began_s
        self._requests = requests
        self._look_s = look_s
        self._told: dict[str, float] = {}
        self._beat_s = monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="apportion-watchdog", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0

    def start(self) -> None:
        """Begin, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._beat_s = monotonic()
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(2 * self._look_s)

    def _run(self) -> None:
        while not self._over.wait(self._look_s):
            began = self._step_began_s()
            step_s = 0.0 if began is None else monotonic() - began
            loop_s = monotonic() - self._beat_s
            self._tell("a step takes long", step_s, {"requests": ",".join(self._requests()[:16])})
            self._tell("the event loop is held up", loop_s, {"in": where(self._loop_thread)})
            if max(step_s, loop_s) < self._patience_s:
                notify("WATCHDOG=1")
            self._ask_for_beat()

    def _ask_for_beat(self) -> None:
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._beat)

    def _beat(self) -> None:
        self._beat_s = monotonic()

    def _tell(self, what: str, seconds: float, fields: dict[str, object]) -> None:
        if seconds < self._patience_s:
            self._told.pop(what, None)
        elif seconds >= 2 * self._told.get(what, 0.0):
            self._told[what] = seconds
            logger.warning(what, extra={"fields": {"seconds": round(seconds, 1), **fields}})


def where(thread: int) -> str:
    """The innermost functions that a thread is in, by name."""
    frame = sys._current_frames().get(thread)
    names: list[str] = []
    while frame is not None and len(names) < DEEPEST:
        names.append(f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_name}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(names)
