"""Fault points: named places in the code at which a test can have the process killed.

The environment variable APPORTION_FAULT_POINT names one of them, or `NAME:N` for the N-th time (from 1) that
it is passed. Without it a fault point does nothing.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "APPORTION_FAULT_POINT"


class _Armed:
    """The point that kills, and how many times it is passed before it does."""

    def __init__(self, text: str) -> None:
        self.name, _, count = text.partition(":")
        self.left = int(count or 1)

    def pass_by(self, name: str) -> None:
        if name == self.name:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


_armed: _Armed | None = None


def arm(text: str) -> None:
    """Do from here on as if the environment variable were `text`; empty: nothing."""
    global _armed
    _armed = _Armed(text) if text else None


def fault_point(name: str) -> None:
    """The process ends here, at once and without any cleaning up, if a test has asked for it."""
    if _armed is not None:
        _armed.pass_by(name)


arm(os.environ.get(VARIABLE, ""))
