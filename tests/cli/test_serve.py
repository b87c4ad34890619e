from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from apportion.serve import ServeConfig, run

Apportion = Callable[..., Any]
URL = "http://127.0.0.1:1"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[ServeConfig]:
    """What servers were started with; none is."""
    configs: list[ServeConfig] = []

    def serve(config: ServeConfig, on_listening: Callable[[str], None], *others: object) -> None:
        configs.append(config)
        on_listening(URL)

    monkeypatch.setattr(run, "serve", serve)
    return configs


def test_what_is_typed_is_what_the_server_is_told(apportion: Apportion, served: list[ServeConfig]) -> None:
    outcome = apportion("serve", "a=one.gguf", "two.gguf", "--metrics-compat", "vllm", "--keep-alive", "60")
    assert outcome.status == 0
    assert f"listening at {URL}" in outcome.err
    (config,) = served
    assert [model.name for model in config.models] == ["a", "two"]
    assert config.metrics_compat == ("vllm",)
    assert config.keep_alive_s == 60


def test_json_is_the_address(apportion: Apportion, served: list[ServeConfig]) -> None:
    outcome = apportion("serve", "one.gguf", "--json")
    assert json.loads(outcome.out) == {"url": URL}
    assert served[0].metrics_compat == ()


def test_names_of_a_server_that_is_not_known_are_refused(
    apportion: Apportion, served: list[ServeConfig]
) -> None:
    assert apportion("serve", "one.gguf", "--metrics-compat", "other").status == 2
    assert not served
