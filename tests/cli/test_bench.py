"""`apportion bench`: the documented object, and a table."""

from __future__ import annotations

import pytest

from apportion.bench import limits


@pytest.fixture(autouse=True)
def small_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAM_NBYTES", 1 << 20)


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
        }
        assert 0 < one["tok_s"]["min"] <= one["tok_s"]["median"] <= one["tok_s"]["max"]
        assert 0 < one["bandwidth_gb_s"]["min"] <= one["bandwidth_gb_s"]["max"]
        assert one["bandwidth_share"] > 0
        assert one["python_us_per_step"] > 0
    assert found["peak_rss_bytes"] > 10_000_000


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
