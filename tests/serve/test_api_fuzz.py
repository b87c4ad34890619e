"""A bounded run of schemathesis; the long one is `make schemathesis`."""

from __future__ import annotations

import re

import pytest
from tests.serve.api_fuzz import fuzz
from tests.serve.running import Running

MIN_CASES = 1500


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_schemathesis_finds_nothing(server: Running) -> None:
    run = fuzz(server.url, "--phases", "coverage,fuzzing", "--max-examples", "10", "--seed", "1")
    assert run.returncode == 0, run.stdout
    cases = re.search(r"([\d,]+) generated", run.stdout)
    assert cases is not None
    assert int(cases[1].replace(",", "")) >= MIN_CASES
