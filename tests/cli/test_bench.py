"""`apportion bench`: the documented object, and a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.models.tiny import tiny_gguf

from apportion.bench import limits
from apportion.core.resident import rss_bytes
from apportion.core.units import MiB
from apportion.formats import open_checkpoint
from apportion.formats.routes import RoutesShape, RoutesWriter
from apportion.models import config_from_checkpoint
from apportion.models.units import model_units
from apportion.plan import make_plan, write_plan


@pytest.fixture(autouse=True)
def small_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAM_NBYTES", 1 << 20)


UNDER_A_BUDGET = (
    *("hit_rate", "disk_bytes_per_token", "disk_GBps", "stall_share", "reading_GBps"),
    *("forecast_tok_s", "forecast_error", "given_disk_tok_s", "given_disk_error"),
)
WORDS = ("--prompt", "16,32", "--decode", "4", "--threads", "1,2", "--repetitions", 2)


def test_json_has_a_result_for_every_length_and_number_of_threads(apportion, tiny_path) -> None:
    found = apportion("bench", tiny_path, *WORDS, "--json").object
    lines = [(one["phase"], one["tokens"], one["threads"]) for one in found["results"]]
    assert sorted(lines) == sorted(
        (phase, tokens, threads)
        for threads in (1, 2)
        for phase, tokens in (("prefill", 16), ("prefill", 32), ("decode", 4))
    )
    for one in found["results"]:
        assert set(one) == {
            *("phase", "tokens", "depth", "threads", "tok_s", "bytes_per_token"),
            *("bandwidth_gb_s", "bandwidth_share", "python_us_per_step"),
            *UNDER_A_BUDGET,
        }
        assert all(one[key] is None for key in UNDER_A_BUDGET)
        assert 0 < one["tok_s"]["min"] <= one["tok_s"]["median"] <= one["tok_s"]["max"]
        assert 0 < one["bandwidth_gb_s"]["min"] <= one["bandwidth_gb_s"]["max"]
        assert one["bandwidth_share"] > 0
        assert one["python_us_per_step"] > 0
    assert found["peak_rss_bytes"] > 10_000_000
    assert found["plan"] is None


def test_the_table_has_a_row_for_each(apportion, tiny_path) -> None:
    outcome = apportion("bench", tiny_path, *WORDS)
    assert outcome.out.count("prefill") == 4
    assert outcome.out.count("decode") == 2


def test_an_answer_begins_at_each_depth_and_reads_its_keys_and_values(apportion, tiny_path) -> None:
    words = ("--prompt", 0, "--decode", 4, "--depth", "0,100", "--threads", 1, "--repetitions", 1, "--json")
    shallow, deep = apportion("bench", tiny_path, *words).object["results"]
    assert (shallow["depth"], deep["depth"]) == (0, 100)
    # 3 layers, keys and values of 2 heads of 16 numbers, 2 bytes each
    assert deep["bytes_per_token"] - shallow["bytes_per_token"] == 100 * 3 * 2 * 2 * 16 * 2


def test_zero_leaves_a_phase_out(apportion, tiny_path) -> None:
    found = apportion("bench", tiny_path, "--prompt", 0, "--decode", 2, "--repetitions", 1, "--json").object
    assert [one["phase"] for one in found["results"]] == ["decode"]


@pytest.mark.parametrize(
    "words",
    [
        ("--prompt", "a"),
        ("--prompt", "-3"),
        ("--prompt", "0", "--decode", "0"),
        ("--prompt", "5000"),
        ("--depth", "250"),
    ],
)
def test_lengths_that_make_no_sense_are_errors_of_usage(apportion, tiny_path, words: tuple[str, ...]) -> None:
    assert apportion("bench", tiny_path, *words).status == 2


# --- under a budget -----------------------------------------------------------------------------------------

LAYERS, EXPERTS, TOP_K, SLOTS = 3, 8, 3, 3


@pytest.fixture(scope="module")
def moe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf("olmoe", tmp_path_factory.mktemp("moe"), block_format="q8_0")


@pytest.fixture
def plan(moe: Path, tmp_path: Path) -> Path:
    """A plan that keeps 3 of each layer's 8 experts."""
    with open_checkpoint(moe) as checkpoint:
        config = config_from_checkpoint(checkpoint)
        units = model_units(config, checkpoint.tensors)
        found = make_plan(
            config, units, rss_bytes() + 256 * MiB, runtime_nbytes=rss_bytes(), threads=1, ctx=64
        )
    path = tmp_path / "plan.json"
    write_plan(replace(found, expert_slots=(SLOTS,) * LAYERS), path)
    return path


def routes(path: Path, tokens: Sequence[Sequence[int]]) -> Path:
    """A file in which all layers of a token use the same experts."""
    with RoutesWriter(path, RoutesShape("made", tuple(range(LAYERS)), EXPERTS, TOP_K)) as writer:
        writer.append(np.array(tokens)[:, None, :].repeat(LAYERS, axis=1))
    return path


SHORT = ("--prompt", 16, "--decode", 6, "--threads", 1, "--repetitions", 2)


def test_under_a_budget_every_line_has_its_traffic_and_its_forecast(apportion, moe, plan) -> None:
    found = apportion("bench", moe, "--plan", plan, *SHORT, "--json").object
    assert found["plan"]["expert_slots"] == [SLOTS] * LAYERS
    prefill, decode = found["results"]
    for one in (prefill, decode):
        assert one["bandwidth_gb_s"] is one["bandwidth_share"] is None
        assert one["disk_bytes_per_token"]["max"] > 0
        assert 0 < one["stall_share"]["median"] < 1
        forecast = one["forecast_tok_s"]
        assert forecast["low"] <= forecast["value"] <= forecast["high"]
        assert one["forecast_error"] == pytest.approx(forecast["value"] / one["tok_s"]["median"] - 1)
        assert one["reading_GBps"]["median"] >= one["disk_GBps"]["median"] > 0
        given = one["given_disk_tok_s"]["value"]
        assert one["given_disk_error"] == pytest.approx(given / one["tok_s"]["median"] - 1)
    assert prefill["hit_rate"] is None
    assert 0 < decode["hit_rate"]["median"] < 1


def test_the_table_under_a_budget_shows_forecast_hits_and_peak(apportion, moe, plan) -> None:
    out = apportion("bench", moe, "--plan", plan, *SHORT).out
    assert "forecast" in out
    assert "stalled" in out
    assert "error then" in out
    assert "peak memory" in out.splitlines()[-1]


@pytest.mark.parametrize(
    ("tokens", "rate"),
    [
        ([[0, 1, 2]], 1.0),
        ([[0, 1, 2], [3, 4, 5]], 0.0),
        ([[0, 1, 2], [0, 1, 3], [0, 1, 4]], 2 / 3),
    ],
)
def test_replayed_routes_decide_what_is_found_in_memory(
    apportion, moe, plan, tmp_path: Path, tokens: list[list[int]], rate: float
) -> None:
    file = routes(tmp_path / "made.routes", tokens * 40)
    words = ("--prompt", 0, "--decode", 10, "--threads", 1, "--repetitions", 2, "--routes", file)
    found = apportion("bench", moe, "--plan", plan, *words, "--json").object
    (one,) = found["results"]
    assert one["hit_rate"] == {key: pytest.approx(rate) for key in ("median", "min", "max")}
    assert (one["disk_bytes_per_token"]["median"] == 0) == (rate == 1.0)
    assert found["plan"]["hit_rate"] == pytest.approx(rate, abs=0.03)
    assert found["plan"]["hit_rate_source"].startswith("routes of made")


def test_a_curve_is_what_the_forecast_reckons_with(apportion, moe, plan, tmp_path: Path) -> None:
    words = ("--prompt", 0, "--decode", 4, "--threads", 1, "--repetitions", 1, "--json")
    curve = tmp_path / "curve.json"
    curve.write_text('{"source": "a cache of mine", "fractions": [0.01, 1.0], "hit_rates": [0.9, 0.9]}')
    told = [
        apportion("bench", moe, "--plan", plan, *words, "--curve", name).object["plan"]
        for name in ("uniform", curve)
    ]
    assert [one["hit_rate"] for one in told] == [pytest.approx(SLOTS / EXPERTS), pytest.approx(1.0)]
    assert told[1]["hit_rate_source"] == "a cache of mine"
    assert told[0]["forecast"]["decode_tok_s"] < told[1]["forecast"]["decode_tok_s"]
    file = routes(tmp_path / "made.routes", [[0, 1, 2]])
    both = apportion("bench", moe, "--plan", plan, "--curve", curve, "--routes", file)
    assert (both.status, "exclude each other" in both.err) == (2, True)


def test_cold_counts_from_the_first_token_and_a_warm_up_does_not(apportion, moe, plan, tmp_path) -> None:
    file = routes(tmp_path / "made.routes", [[0, 1, 2]])
    words = ("--prompt", 0, "--decode", 4, "--threads", 1, "--repetitions", 1, "--routes", file, "--json")
    rates = [
        apportion("bench", moe, "--plan", plan, *words, *more).object["results"][0]["hit_rate"]["median"]
        for more in (["--cold"], ["--warmup", "0"], ["--warmup", "9"])
    ]
    assert rates == [0.75, 0.75, 1.0], "of 4 tokens the first misses"


@pytest.mark.parametrize(
    "words", [("--cold",), ("--warmup", "3"), ("--routes", "made.routes"), ("--curve", "uniform")]
)
def test_what_needs_a_budget_says_so(apportion, tiny_path, tmp_path, monkeypatch, words) -> None:
    routes(tmp_path / "made.routes", [[0, 1, 2]])
    monkeypatch.chdir(tmp_path)
    outcome = apportion("bench", tiny_path, *words)
    assert outcome.status == 2
    assert "need a budget" in outcome.err


def test_routes_are_refused_where_all_weights_stay_in_memory(apportion, moe, tmp_path) -> None:
    file = routes(tmp_path / "made.routes", [[0, 1, 2]])
    outcome = apportion("bench", moe, "--ram", "8GiB", *SHORT, "--routes", file)
    assert outcome.status == 2
    assert "all weights of the model stay in memory" in outcome.err


def test_lengths_beyond_the_plans_context_are_refused(apportion, moe, plan) -> None:
    outcome = apportion("bench", moe, "--plan", plan, "--prompt", 100, "--decode", 0)
    assert outcome.status == 2
    assert "beyond the plan's context" in outcome.err
