from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse
from tests.serve.running import Running, config_for, running
from tests.serve.streaming import streaming

from apportion.core.errors import NotFound
from apportion.engine.assembly import Serving
from apportion.serve.metrics import COMPAT, OWN, Page, Sight
from apportion.serve.metrics.metric import Metric

ASK = {"prompt": "once upon a time there was a model " * 4, "max_tokens": 12, "ignore_eos": True}
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
EVERY = [*OWN, *COMPAT["vllm"]]

# Metrics that a healthy server has no values of until something goes wrong or a feature is used.
QUIET = {
    "apportion_ledger_refusals_total",
    "apportion_prefill_progress_ratio",
}


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A model of experts of which a part streams, with a store on disk, after some requests."""
    folder = tmp_path_factory.mktemp("models")
    serving = Serving(concurrency=2, kv_disk="64MiB", kv_dir=folder / "kv")
    with streaming(folder, serving=serving, metrics_compat=("vllm",)) as server:
        for _ in range(2):
            assert httpx.post(f"{server.url}/v1/completions", json=ASK, timeout=30).status_code == 200
        yield server


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def scraped(server: Running) -> Samples:
    return samples(httpx.get(f"{server.url}/metrics").text)


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.name)
def test_every_metric_is_read_on_a_server_that_works(busy: Running, metric: Metric) -> None:
    found = list(metric.read(Sight.of(busy.site)))
    for labels, one in found:
        assert len(labels) == len(metric.labels)
        assert metric.kind == "histogram" or math.isfinite(float(one))  # type: ignore[arg-type]
    assert found or metric.name in QUIET, "no values"


def test_names_are_unique_and_say_their_unit() -> None:
    families = [metric.family().name for metric in EVERY]
    assert len(families) == len(set(families))
    for metric in OWN:
        assert metric.name.startswith("apportion_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.sentence.endswith(".")


def test_the_whole_page_is_what_prometheus_reads(busy: Running) -> None:
    response = httpx.get(f"{busy.url}/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    families = {family.name: family for family in parse(response.text)}
    assert {metric.family().name for metric in EVERY} <= families.keys()
    for metric in EVERY:
        family = families[metric.family().name]
        assert family.documentation == metric.sentence
        assert {"model", "model_name"} & set(metric.labels) or len(family.samples) < 30


def test_the_page_is_open_metrics_too_for_those_who_ask(busy: Running) -> None:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    response = httpx.get(f"{busy.url}/metrics", headers=accept)
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    names = {family.name for family in parse_open(response.text)}
    assert "apportion_output_tokens" in names
    assert response.text.endswith("# EOF\n")


def test_histograms_are_cumulative_and_end_with_their_count(busy: Running) -> None:
    for family in parse(httpx.get(f"{busy.url}/metrics").text):
        if family.type != "histogram":
            continue
        counts: dict[frozenset[tuple[str, str]], list[float]] = {}
        for sample in family.samples:
            labels = frozenset((k, v) for k, v in sample.labels.items() if k != "le")
            if sample.name.endswith("_bucket"):
                counts.setdefault(labels, []).append(sample.value)
            elif sample.name.endswith("_count"):
                assert counts[labels][-1] == sample.value
        assert all(row == sorted(row) for row in counts.values())


def test_values_are_those_of_the_requests_that_ran(busy: Running) -> None:
    before = scraped(busy)
    assert httpx.post(f"{busy.url}/v1/completions", json=ASK, timeout=30).status_code == 200
    after = scraped(busy)

    def grown(name: str, **labels: str) -> float:
        return value(after, name, model="tiny", **labels) - value(before, name, model="tiny", **labels)

    assert grown("apportion_requests_finished_total", finish_reason="length") == 1
    assert grown("apportion_output_tokens_total") == 12
    assert grown("apportion_reused_tokens_total") > 0
    assert grown("apportion_prefix_blocks_total", result="hit") > 0
    assert grown("apportion_time_to_first_token_seconds_count") == 1
    assert grown("apportion_inter_token_seconds_count") == 11
    assert grown("apportion_request_prompt_tokens_sum") > 100
    assert value(after, "apportion_model_state", model="tiny", state="loaded") == 1
    assert value(after, "apportion_model_state", model="tiny", state="failed") == 0
    assert value(after, "apportion_requests", model="tiny", state="decode") == 0


def test_experts_are_counted_by_whether_memory_had_them(busy: Running) -> None:
    found = scraped(busy)

    def requests(phase: str, tier: str, result: str) -> float:
        labels = {"phase": phase, "tier": tier, "result": result}
        return value(found, "apportion_expert_requests_total", model="tiny", **labels)

    assert requests("decode", "ram", "hit") > 0
    assert requests("decode", "disk", "miss") > 0
    assert requests("prefill", "disk", "miss") > 0
    assert value(found, "apportion_expert_load_seconds_count", model="tiny") > 0
    assert value(found, "apportion_tier_read_bytes_total", tier="disk", content="weights") > 0
    assert value(found, "apportion_tier_reading_seconds_total", tier="disk", content="weights") > 0
    assert value(found, "apportion_tier_write_bytes_total", tier="disk", content="kv") > 0
    assert value(found, "apportion_stall_seconds_total", cause="experts") > 0
    slots = value(found, "apportion_experts", model="tiny", state="slots")
    assert 0 < value(found, "apportion_experts", model="tiny", state="resident") <= slots == 9
    assert value(found, "apportion_store_blocks_written_total", model="tiny", store="disk") > 0


def test_memory_is_told_by_tier_and_kind_and_keeps_to_its_budget(busy: Running) -> None:
    found = scraped(busy)
    kinds = {dict(labels)["kind"]: v for (name, labels), v in found.items() if name == "apportion_tier_bytes"}
    assert {"runtime", "dense_weights", "kv", "reserve"} <= kinds.keys()
    ram = [
        v
        for (name, labels), v in found.items()
        if name == "apportion_tier_bytes" and ("tier", "ram") in labels
    ]
    assert sum(ram) <= value(found, "apportion_budget_bytes", tier="ram") == 2 << 30
    assert value(found, "apportion_budget_bytes", tier="disk") == 64 << 20
    assert value(found, "apportion_tier_peak_bytes", tier="ram") > 0


def test_what_was_foretold_stands_beside_what_was_measured(busy: Running) -> None:
    assert httpx.post(f"{busy.url}/v1/completions", json=ASK, timeout=30).status_code == 200
    found = scraped(busy)
    told = value(found, "apportion_forecast", model="tiny", figure="decode_tok_s")
    was = value(found, "apportion_measured", model="tiny", figure="decode_tok_s")
    error = value(found, "apportion_plan_error_ratio", model="tiny", figure="decode_tok_s")
    assert error == pytest.approx(was / told - 1)


def test_dashboards_of_vllm_find_their_names(busy: Running) -> None:
    found = scraped(busy)
    labels = {"model_name": "tiny", "engine": "0"}
    assert value(found, "vllm:num_requests_running", **labels) == 0
    assert value(found, "vllm:request_success_total", **labels, finished_reason="length") >= 2
    assert value(found, "vllm:generation_tokens_total", **labels) >= 24
    assert value(found, "vllm:time_to_first_token_seconds_count", **labels) >= 2
    assert 0 <= value(found, "vllm:kv_cache_usage_perc", **labels) <= 1
    assert value(found, "vllm:prefix_cache_hits_total", **labels) <= value(
        found, "vllm:prefix_cache_queries_total", **labels
    )


def test_other_servers_names_come_only_when_they_were_asked_for(server: Running) -> None:
    assert "vllm:" not in httpx.get(f"{server.url}/metrics").text


def test_names_of_a_server_that_we_do_not_know_are_refused() -> None:
    with pytest.raises(NotFound, match="set of metrics"):
        Page(("vlmm",))


def test_models_that_clients_make_up_leave_no_trace(server: Running) -> None:
    before = len(httpx.get(f"{server.url}/metrics").text.splitlines())
    for number in range(20):
        body = {**ASK, "model": f"made-up-{number}"}
        assert httpx.post(f"{server.url}/v1/completions", json=body).status_code == 404
    text = httpx.get(f"{server.url}/metrics").text
    assert "made-up" not in text
    assert len(text.splitlines()) <= before + 3


def test_requests_are_counted_by_route_and_status(server: Running) -> None:
    before = scraped(server)
    httpx.get(f"{server.url}/v1/models/nobody/of/this/name")
    httpx.get(f"{server.url}/no-such-route/{'x' * 50}")
    httpx.delete(f"{server.url}/health")
    after = scraped(server)
    new = {
        (dict(labels)["route"], dict(labels)["status"])
        for (name, labels), count in after.items()
        if name == "apportion_http_requests_total" and count > before.get((name, labels), 0)
    }
    assert {("/v1/models/{name:path}", "404"), ("", "404")} <= new
    assert all("xxx" not in route for route, _ in new)


def test_metrics_are_for_those_who_have_a_key_where_there_are_keys(tmp_path: Path) -> None:
    with running(config_for(tmp_path, api_keys=("key-of-a-scraper",))) as server:
        assert httpx.get(f"{server.url}/metrics").status_code == 401
        headers = {"Authorization": "Bearer key-of-a-scraper"}
        assert httpx.get(f"{server.url}/metrics", headers=headers).status_code == 200
