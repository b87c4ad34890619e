"""A tiny real model and a text long enough to judge it by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.models.tiny import tiny_gguf

from apportion.engine.loading import LoadedModel, load
from apportion.kernels import NativeOps


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf("llama", tmp_path_factory.mktemp("tiny"), block_format="q4_0")


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> LoadedModel:
    return load(tiny_path, NativeOps(threads=1))


@pytest.fixture(scope="session")
def text() -> str:
    letters = np.random.default_rng(5).integers(97, 123, 400)
    return "".join(map(chr, letters))
