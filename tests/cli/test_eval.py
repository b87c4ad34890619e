"""`apportion eval`: perplexity and divergence from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.models.tiny import tiny_gguf

TEXT = "the rain in spain stays mainly in the plain " * 12


@pytest.fixture
def text_file(tmp_path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def test_perplexity_prints_one_line(apportion, tiny_path, text_file) -> None:
    outcome = apportion("eval", "perplexity", tiny_path, text_file, "--ctx", 64)
    assert outcome.status == 0
    assert outcome.out.startswith("perplexity ")
    assert "±" in outcome.out


def test_perplexity_as_json_has_the_documented_keys(apportion, tiny_path, text_file) -> None:
    found = apportion("eval", "perplexity", tiny_path, text_file, "--ctx", 64, "--json").object
    assert {"perplexity", "tokens", "ctx", "error", "seconds", "windows"} <= set(found)
    assert (found["ctx"], found["tokens"]) == (64, 31 * found["windows"])
    assert len(found["running"]) == found["windows"]


def test_the_native_path_agrees_with_the_reference_within_a_fifth_of_a_percent(
    apportion, tmp_path, text_file
) -> None:
    path = tiny_gguf("gemma3", tmp_path, block_format="q8_0")
    words = ("eval", "perplexity", path, text_file, "--ctx", 64, "--limit-windows", 3, "--json")
    native, exact, reference = (
        apportion(*words, *flags).object["perplexity"] for flags in ([], ["--exact"], ["--reference"])
    )
    assert native == pytest.approx(reference, rel=2e-3)
    assert exact == pytest.approx(reference, rel=1e-4)


def test_the_number_of_windows_can_be_limited(apportion, tiny_path, text_file) -> None:
    found = apportion(
        "eval", "perplexity", tiny_path, text_file, "--ctx", 64, "--limit-windows", 2, "--json"
    ).object
    assert found["windows"] == 2


def test_divergence_of_the_default_from_the_lossless_setting_is_small(
    apportion, tiny_path, text_file
) -> None:
    found = apportion("eval", "kld", tiny_path, text_file, "--ctx", 64, "--json").object
    assert found["setting"] == "all"
    assert 0 < found["mean_kld"] < 0.01
    assert {
        "median_kld",
        "max_kld",
        "percentiles",
        "same_top",
        "rms_probability_difference",
        "perplexity_ratio",
    } <= set(found)


@pytest.mark.parametrize("setting", ["exact", "kv"])
def test_single_settings_can_be_judged(apportion, tiny_path, text_file, setting: str) -> None:
    outcome = apportion(
        "eval", "kld", tiny_path, text_file, "--ctx", 64, "--limit-windows", 2, "--setting", setting
    )
    assert outcome.status == 0
    assert "mean KLD" in outcome.out


def test_divergence_from_another_model(apportion, tiny_path, tmp_path, text_file) -> None:
    other = tiny_gguf("llama", tmp_path, seed=1)
    found = apportion("eval", "kld", tiny_path, text_file, "--against", other, "--ctx", 64, "--json").object
    assert found["mean_kld"] > 0.01
    same = apportion(
        "eval", "kld", tiny_path, text_file, "--against", tiny_path, "--ctx", 64, "--json"
    ).object
    assert same["max_kld"] < 1e-6


def test_against_and_setting_exclude_each_other(apportion, tiny_path, text_file) -> None:
    outcome = apportion("eval", "kld", tiny_path, text_file, "--against", tiny_path, "--setting", "kv")
    assert outcome.status == 2


def test_a_short_text_is_refused_with_a_hint(apportion, tiny_path, tmp_path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("short")
    outcome = apportion("eval", "perplexity", tiny_path, path)
    assert outcome.status == 2
    assert "--ctx" in outcome.err


def test_a_file_that_is_no_text_is_refused(apportion, tiny_path, tmp_path) -> None:
    path = tmp_path / "bytes.bin"
    path.write_bytes(b"\xff" * 100)
    assert "not UTF-8" in apportion("eval", "perplexity", tiny_path, path).err


def test_a_missing_text_is_an_error_of_usage(apportion, tiny_path, tmp_path) -> None:
    assert apportion("eval", "perplexity", tiny_path, tmp_path / "none.txt").status == 2
