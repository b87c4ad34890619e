from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from tests.models.tiny import tiny_gguf
from tests.serve.running import Running, config_for, running

from apportion.serve import ModelSpec
from apportion.serve.access import Caller
from apportion.serve.status import snapshot_of


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two models under one budget, of which the second has not been asked for yet."""
    folder = tmp_path_factory.mktemp("models")
    config = config_for(folder, ram="2GiB")
    second = ModelSpec("second", str(tiny_gguf("qwen3", folder)))
    with running(config_for(folder, ram="2GiB", models=(*config.models, second))) as server:
        yield server


def test_models_share_one_account(two: Running) -> None:
    before = snapshot_of(two.site).status
    assert [model.state for model in before.models] == ["loaded", "unloaded"]
    ask = {"model": "second", "prompt": "once upon a time", "max_tokens": 6, "ignore_eos": True}
    assert httpx.post(f"{two.url}/v1/completions", json=ask, timeout=30).status_code == 200
    after = snapshot_of(two.site).status
    assert [model.state for model in after.models] == ["loaded", "loaded"]
    assert after.budget.ram.limit_bytes == before.budget.ram.limit_bytes == 2 << 30
    assert after.budget.ram.kinds["dense_weights"] > before.budget.ram.kinds["dense_weights"]
    assert after.counters["output_tokens"] == before.counters["output_tokens"] + 6
    first, second = after.models
    assert first.measured.ttft_s is None
    assert second.measured.ttft_s is not None


def test_a_model_that_failed_to_load_says_why_without_a_path(two: Running) -> None:
    offered = two.site.models.offered("second")
    offered.error, llm, offered.llm = "it is no model", offered.llm, None
    try:
        model = snapshot_of(two.site).status.models[1]
    finally:
        offered.error, offered.llm = None, llm
    assert (model.state, model.error, model.ctx, model.kv) == ("failed", "it is no model", None, None)


def test_a_snapshot_is_written_once_for_each_who_looks(two: Running) -> None:
    snapshot = snapshot_of(two.site)
    anna, root = Caller("anna"), Caller("root", is_admin=True)
    assert snapshot.written_for(anna) is snapshot.written_for(Caller("anna"))
    assert snapshot.written_for(root) is not snapshot.written_for(anna)


def test_no_path_of_the_machine_is_told(two: Running) -> None:
    text = snapshot_of(two.site).written_for(Caller(is_admin=True)).decode()
    references = [spec.reference for spec in two.site.config.models]
    assert all(reference not in text for reference in references)
