"""One server for all tests of a file that ask for it: starting takes longer than most of them."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from tests.serve.running import Running, config_for, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(config_for(tmp_path_factory.mktemp("models"))) as one:
        yield one


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=20) as one:
        yield one
