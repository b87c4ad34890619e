"""Steady decoding allocates nothing: real calls of malloc, new and mmap are counted, over 10,000 steps."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.models.count_allocations import HELD

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD and /proc are Linux's"),
    pytest.mark.slow,
]


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`allocations.c`, compiled."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        pytest.skip("there is no C compiler to build the counter with")
    library = tmp_path_factory.mktemp("shim") / "allocations.so"
    words = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(HERE / "allocations.c")]
    subprocess.run(words, check=True, capture_output=True)
    return library


@pytest.mark.parametrize(
    ("family", "steps"), [("llama", 10_000), ("gemma3", 1_000), ("olmoe", 1_000), ("deepseek2", 1_000)]
)
def test_after_the_first_hundred_steps_nothing_is_allocated_but_logits_that_are_kept(
    family: str, steps: int, shim: Path, tmp_path: Path
) -> None:
    found = counted(shim, family, str(steps), str(tmp_path))
    assert (found["native"], found["large"]) == (0, 0), found
    assert HELD - 2 <= found["results"] <= HELD, "a row anew only for a caller that keeps those before"


def test_nor_is_anything_for_greedy_steps(shim: Path, tmp_path: Path) -> None:
    found = counted(shim, "llama", "2000", str(tmp_path), "greedy")
    assert (found["native"], found["large"]) == (0, 0), found


def counted(shim: Path, *arguments: str) -> dict[str, Any]:
    words = [sys.executable, "-m", "tests.models.count_allocations", *arguments]
    environment = os.environ | {"LD_PRELOAD": str(shim)}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
