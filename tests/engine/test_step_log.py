from __future__ import annotations

from pathlib import Path

import pytest
from tests.engine.scripted import BLOCK, LAYERS, ScriptedExecutor, make_request, make_space

from apportion.core.clock import VirtualClock
from apportion.core.errors import BadFile, NotFound
from apportion.engine.engine import Engine
from apportion.engine.step_log import LoggedItem, LoggedStep, StepLog
from apportion.policies.scheduler import SCHEDULERS

LOG = StepLog(3, [LoggedStep(1.5, 0.25, (LoggedItem(0, 7, 0, 0, 3), LoggedItem(1, 1, 9, 0, 2)))])


def test_a_log_is_read_as_it_was_written(tmp_path: Path) -> None:
    LOG.write(tmp_path / "steps.jsonl")
    assert StepLog.read(tmp_path / "steps.jsonl") == LOG


def test_an_engine_logs_every_step_with_what_came_before_its_tokens() -> None:
    log, space = StepLog(LAYERS), make_space(50)
    state = SCHEDULERS.choose("splitfuse:tokens=4").state()
    engine = Engine(
        ScriptedExecutor(space.pool), space, state, block_tokens=BLOCK, clock=VirtualClock(), on_step=log
    )
    request = engine.add(make_request(range(10), 3))
    while not request.is_over:
        engine.step()
    found = [(item.num_tokens, item.num_before) for step in log.steps for item in step.items]
    assert found == [(4, 0), (4, 4), (2, 8), (1, 10), (1, 11)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]\n",
        '{"num_layers": 0}\n',
        '{"num_layers": 2}\n{"begin_s": 1, "seconds": 1, "items": [[0, 1, 0, 0, 3]]}\n',
        '{"num_layers": 2}\n{"begin_s": 1, "seconds": 1, "items": [[0, 1, 0, 1, 1]]}\n',
        '{"num_layers": 2}\n{"begin_s": 1, "seconds": 0, "items": []}\n',
        '{"num_layers": 2}\n{"begin_s": 1, "seconds": 1, "items": [[0, 1.5, 0, 0, 1]]}\n',
        '{"num_layers": 2}\n{"begin_s": NaN, "seconds": 1, "items": []}\n',
        '{"num_layers": 2}\n{"seconds": 1, "items": []}\n',
    ],
)
def test_what_is_no_log_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "steps.jsonl").write_text(text)
    with pytest.raises(BadFile):
        StepLog.read(tmp_path / "steps.jsonl")


def test_a_log_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        StepLog.read(tmp_path / "steps.jsonl")
