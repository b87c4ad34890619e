from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.memory.reading import SIZE

from apportion.core.claim import Kind, Tier
from apportion.core.errors import DiskFault
from apportion.core.units import MiB
from apportion.memory import Arena, Ledger, Reader


@pytest.fixture
def ledger() -> Ledger:
    return Ledger({Tier.RAM: 64 * MiB})


@pytest.fixture
def arena(ledger: Ledger) -> Iterator[Arena]:
    """Eight slots of one MiB."""
    arena = Arena(ledger, Kind.EXPERT_SLOTS, MiB, 8)
    yield arena
    with suppress(BufferError):  # a read that is stuck on purpose still holds it
        arena.close()


@pytest.fixture(scope="session")
def content() -> bytes:
    return np.random.default_rng(7).integers(0, 256, SIZE, dtype=np.uint8).tobytes()


@pytest.fixture
def path(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "weights.bin"
    path.write_bytes(content)
    return path


@pytest.fixture(params=["ring", "threads"])
def make_reader(request: pytest.FixtureRequest) -> Iterator[Callable[..., Reader]]:
    """Makes readers of each back end, and closes them."""
    with ExitStack() as stack:

        def make(**options: Any) -> Reader:
            try:
                reader = Reader(backend=request.param, **options)
            except DiskFault as error:
                pytest.skip(f"needs io_uring: {error}")
            stack.callback(close, reader)
            return reader

        yield make


def close(reader: Reader) -> None:
    with suppress(DiskFault):  # some tests leave a read stuck
        reader.close()
