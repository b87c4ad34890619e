"""Running verbs in this process and reading what they print."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.models.tiny import tiny_gguf

from apportion.cli import main


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command line left behind."""

    status: int
    out: str
    err: str

    @property
    def object(self) -> dict[str, Any]:
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


Apportion = Callable[..., Outcome]


@pytest.fixture
def apportion(capsys: pytest.CaptureFixture[str]) -> Apportion:
    """`apportion("run", "model.gguf", "--json")` as a shell would run it."""

    def call(*words: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Outcome(int(stop.value.code or 0), out, err)

    return call


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights, with a tokenizer and a chat template; 256 positions."""
    return tiny_gguf("llama", tmp_path_factory.mktemp("tiny"), block_format="q4_0")
