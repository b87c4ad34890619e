"""Processes, killed at each fault point and at random: what they called safe is there, and nothing is wrong.

Set APPORTION_LONG_TESTS to a number to have so many more random kills.
"""

from __future__ import annotations

import ast
import multiprocessing
import os
import random
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from tests.engine.store.crash_child import LIMITS, NUM_BLOCKS, work
from tests.engine.store.house import chain, get, put, store

import apportion
from apportion.core.clock import RealClock

MORE = int(os.environ.get("APPORTION_LONG_TESTS", "0"))
SOURCES = Path(apportion.__file__).parent
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.engine.store.crash_child"])


def points() -> list[str]:
    """Every fault point in the sources."""
    found = set()
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "fault_point"
            ):
                assert isinstance(node.args[0], ast.Constant), path
                found.add(node.args[0].value)
    return sorted(found)


POINTS = points()
# Not passed the first time on a good day, or passed so early that a later time is the better test.
TIMES = {"record.written": 5, "commit.published": 3, "put.queued": 7, "seal.renamed": 2, "segment.created": 3}
LEFTOVER = {"open.leftover_sealed"}


def child(folder: Path, seed: int, num_rounds: int = 4, point: str = "") -> ForkServerProcess:
    """A process of its own that works on a store; forked from one that has imported everything."""
    arguments = (str(folder / "store"), str(folder / "log"), seed, num_rounds, point)
    process = SERVER.Process(target=work, args=arguments)
    process.start()
    return process


def said_by_dead(process: ForkServerProcess, folder: Path) -> str:
    process.join(60)
    assert process.exitcode == -9
    return (folder / "log").read_text()


def check(folder: Path, said: str) -> None:
    """What the child had called safe last is there: nothing has pushed it out, for the limit is larger."""
    lines = [line.split() for line in said.splitlines()]
    assert ["done"] not in lines
    safe = {int(words[1]): int(words[2]) for words in lines if words[0] == "safe"}
    last = max(safe, default=None)
    with store(None, LIMITS, RealClock(), folder) as kept:
        for seed in safe:
            found = [get(kept, block) for block in chain(seed, NUM_BLOCKS)]
            if seed == last:
                # Block 2 may be on its way out.
                assert all(found[i] for i in range(safe[seed]) if i != 2), (seed, found)
            if ["removed", str(seed)] in lines:
                assert not found[2]
        assert kept.used_nbytes <= LIMITS.limit_nbytes
        assert kept.counters.corrupt == 0
        fresh = chain(99, 3)
        assert all(put(kept, block) for block in fresh)
        kept.flush()
        assert all(get(kept, block) for block in fresh)


def test_there_are_at_least_24_fault_points() -> None:
    assert len(POINTS) >= 24


@pytest.mark.parametrize("point", POINTS)
def test_a_process_killed_at_a_fault_point_loses_nothing_that_was_safe(point: str, tmp_path: Path) -> None:
    if point in LEFTOVER:
        said_by_dead(child(tmp_path, 1, point="commit.synced:2"), tmp_path)
    process = child(tmp_path, 10, point=f"{point}:{TIMES.get(point, 1)}")
    check(tmp_path / "store", said_by_dead(process, tmp_path))


@pytest.mark.parametrize("seed", range(10 + MORE))
def test_a_process_killed_at_any_time_loses_nothing_that_was_safe(seed: int, tmp_path: Path) -> None:
    process = child(tmp_path, seed * 1000, num_rounds=1000)
    deadline = time.monotonic() + 60
    while not (tmp_path / "log").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(random.Random(seed).uniform(0.0, 0.3))
    process.kill()
    check(tmp_path / "store", said_by_dead(process, tmp_path))
