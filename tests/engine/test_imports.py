"""Parts of the engine can be used without the rest of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import apportion.engine


@pytest.mark.parametrize("part", ["store", "params", "completion", "engine", "prefix.keys"])
def test_a_part_does_not_import_the_facade(part: str) -> None:
    ask = f"import apportion.engine.{part}, sys; print('apportion.engine.llm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "False"


def test_every_public_name_is_there_and_no_other() -> None:
    assert all(getattr(apportion.engine, name) is not None for name in apportion.engine.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        apportion.engine.nothing  # noqa: B018
