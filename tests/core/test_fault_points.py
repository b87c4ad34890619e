"""Fault points kill where they were asked to, and do nothing otherwise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from apportion.core.fault_points import VARIABLE, fault_point

CODE = """
from apportion.core.fault_points import fault_point
for name in ("a", "b", "a", "b"):
    fault_point(name)
    print(name, flush=True)
"""


@pytest.mark.parametrize(
    ("armed", "status", "passed"),
    [("", 0, "abab"), ("a", -9, ""), ("b", -9, "a"), ("a:2", -9, "ab"), ("b:3", 0, "abab"), ("c", 0, "abab")],
)
def test_a_process_dies_at_the_named_point_and_nowhere_else(armed: str, status: int, passed: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", CODE], env=os.environ | {VARIABLE: armed}, capture_output=True
    )
    assert run.returncode == status
    assert run.stdout.decode().replace("\n", "") == passed
    assert status in (0, -signal.SIGKILL)


def test_without_being_asked_a_point_does_nothing() -> None:
    fault_point("anything")
