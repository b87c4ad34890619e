"""The soak, short: some hundred mixed requests. `make soak` goes on for half an hour."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_mixed_requests_leave_nothing_behind() -> None:
    command = [sys.executable, "-m", "tests.soak", "--minutes", "0.2", "--seed", "7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["wrong"] == []
    assert sum(report["outcomes"].values()) > 100
    assert {"checked 200", "left left", "nonsense refused"} <= set(report["outcomes"])
