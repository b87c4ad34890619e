"""One server for all contract tests: a tiny model with random weights, and one that repeats what it hears."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import anthropic
import httpx
import openai
import pytest
from tests.models import tiny
from tests.serve.contract.parrot import parrot
from tests.serve.running import Running, config_for, running

from apportion.engine import LLM
from apportion.serve import ModelSpec, models
from apportion.serve.offered import loaded_llm


def load(spec: ModelSpec, *rest: Any) -> LLM:
    return parrot() if spec.reference == "parrot" else loaded_llm(spec, *rest)


@pytest.fixture(scope="session")
def contract_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    patch = pytest.MonkeyPatch()
    patch.setattr(models, "loaded_llm", load)
    with patch.context() as longer:
        longer.setitem(tiny.BASE, "max_position_embeddings", 1024)
        config = config_for(tmp_path_factory.mktemp("models"))
    config = replace(config, models=(*config.models, ModelSpec("parrot", "parrot")))
    with running(config) as one:
        yield one
    patch.undo()


@pytest.fixture
def server(contract_server: Running) -> Running:
    return contract_server


@pytest.fixture(scope="session")
def http(contract_server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=contract_server.url, timeout=30) as one:
        yield one


@pytest.fixture(scope="session")
def oai(contract_server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{contract_server.url}/v1", api_key="unused", max_retries=0) as one:
        yield one


@pytest.fixture(scope="session")
def claude(contract_server: Running) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=contract_server.url, api_key="unused", max_retries=0) as one:
        yield one
