"""The table of promises in the documentation: the tests that it names are there, as many as it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
GROUPS: list[dict[str, Any]] = json.loads((ROOT / "tests" / "promises.json").read_text())


def test_every_promise_has_at_least_as_many_cases_as_it_aims_for() -> None:
    short = [group["what"] for group in GROUPS if group["cases"] < group["goal"]]
    assert short == []


@pytest.mark.slow
def test_the_tests_that_hold_a_promise_are_there() -> None:
    files = sorted({name for group in GROUPS for name in group["tests"]})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert said.returncode == 0, said.stdout[-2000:]
    found = {name: int(count) for name, count in re.findall(r"^(tests/\S+\.py): (\d+)$", said.stdout, re.M)}
    fewer = {
        name: (found.get(name, 0), count)
        for group in GROUPS
        for name, count in group["tests"].items()
        if found.get(name, 0) < count
    }
    assert fewer == {}, "file: (tests that are there, tests that were promised)"
