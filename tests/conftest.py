"""Fixtures that every room's tests share."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings
from tests.control_group import limit_file

from apportion.core.settings import MODELS_DIR, PREFIX, get

# A parent that ignores Ctrl-C hands that on; the tests that send it, and their programs, must hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says little where others compute too; pytest-timeout bounds whole tests.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# Looked up before a test gets a home of its own.
MODELS = get(MODELS_DIR)
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """Real texts and vectors that lie beside the checkout on some machines."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the reference data set beside the checkout: {SHARED_DATA.name} is not there")
    return SHARED_DATA


@pytest.fixture
def smollm2(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the small real model, which `make test` pulls. Nothing is downloaded here."""
    from apportion.core.errors import ApportionError
    from apportion.sources import resolve

    monkeypatch.setenv(MODELS_DIR.variable, os.fspath(MODELS))
    try:
        return resolve("smollm2", offline=True).path
    except ApportionError as error:
        pytest.skip(f"needs the model smollm2, which is not on this machine: {error.what}")


def pytest_collection_finish() -> None:
    """Ten thousand tests are many objects. Set aside, they are not gone through by the collections that tests
    and servers ask for: on a busy machine each of those took more than a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders that are not there yet, one after the other."""
    base = tmp_path_factory.mktemp("homes")
    return (base / str(number) for number in count())


@pytest.fixture(autouse=True)
def _own_home(_homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own settings, caches or models."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    home = next(_homes)
    home.mkdir()
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.delenv("HF_HOME", raising=False)


@pytest.fixture
def group() -> Iterator[Path]:
    """A group of our own, unlimited as yet; the test is skipped where none can be made."""
    for parent in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")):
        group = parent / f"apportion-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        if limit_file(group).exists():
            yield group
            group.rmdir()
            return
        group.rmdir()
    pytest.skip("needs the right to make memory control groups")
