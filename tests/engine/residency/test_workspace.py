"""What plans reckon for passes is what the core's programs need, and little more."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.engine.residency.conftest import Load
from tests.models.tiny import IN_GGUF, tiny_gguf

from apportion.models import Model
from apportion.plan.estimate import workspace_of

LONG = 4096


def needed(model: Model, tokens: int) -> int:
    """Bytes of buffers that a run of so many tokens takes, 512 at a time."""
    program = model._program()
    return min(tokens, 512) * program.nbytes_per_token + tokens * program.nbytes_carried


@pytest.mark.parametrize("name", IN_GGUF)
def test_a_model_that_streams_needs_what_was_reckoned(load: Load, name: str, tmp_path: Path) -> None:
    model = load(tiny_gguf(name, tmp_path), 2, range(3)).model
    workspace = workspace_of(model.config)
    for tokens in (1, 100, 512, LONG):
        assert workspace(tokens) >= needed(model, tokens)
    more = needed(model, 2 * LONG) - needed(model, LONG)
    assert workspace(2 * LONG) - workspace(LONG) < 1.5 * more, "it would keep others out"
