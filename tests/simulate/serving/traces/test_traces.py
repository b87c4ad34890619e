"""Traces are read as they are written down, scaled by stated factors, and never trusted."""

from __future__ import annotations

import gzip
import json
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from apportion.core.errors import ApportionError, BadFile, NotFound, UsageError
from apportion.simulate.serving.traces import TracedRequest, prompt_ids, read_trace, scaled
from apportion.simulate.serving.traces.synthetic import drawn

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:51.2225670,0,55
2023-11-16 18:15:51.3910170,91,16
"""
DATA = Path(__file__).parents[5] / "shared" / "data"


def mooncake_line(**changes: object) -> str:
    record = {"timestamp": 3000, "input_length": 700, "output_length": 5, "hash_ids": [0, 7]}
    return json.dumps({**record, **changes}) + "\n"


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["conv.csv", "conv.csv.gz"])
def test_azure_requests_come_when_they_came_without_those_that_failed(tmp_path: Path, name: str) -> None:
    requests = list(read_trace(write(tmp_path / name, AZURE)))
    assert [(request.num_prompt, request.num_output) for request in requests] == [
        (374, 44),
        (396, 109),
        (91, 16),
    ]
    assert [request.arrival_s for request in requests] == pytest.approx([0, 4.314579, 4.710427], abs=1e-5)


@pytest.mark.parametrize("name", ["talk.jsonl", "talk.jsonl.gz"])
def test_mooncake_prompts_share_the_tokens_of_equal_pieces(tmp_path: Path, name: str) -> None:
    text = mooncake_line() + mooncake_line(timestamp=3500, hash_ids=[0, 8])
    first, second = read_trace(write(tmp_path / name, text))
    assert (first.arrival_s, second.arrival_s) == (3.0, 3.5)
    ids = [prompt_ids(request, number, 1000) for number, request in enumerate((first, second))]
    assert [one.shape for one in ids] == [(700,), (700,)]
    assert np.array_equal(ids[0][:512], ids[1][:512])
    assert not np.array_equal(ids[0][512:], ids[1][512:])
    assert ids[0].min() >= 0
    assert ids[0].max() < 1000


def test_requests_without_names_share_nothing_and_are_the_same_every_time() -> None:
    request = TracedRequest(0.0, 50, 1)
    assert not np.array_equal(prompt_ids(request, 1, 1000), prompt_ids(request, 2, 1000))
    assert np.array_equal(prompt_ids(request, 1, 1000), prompt_ids(request, 1, 1000))


@pytest.mark.parametrize("length", [1 / 8, 1 / 7, 1.0, 2.5])
def test_scaling_keeps_bursts_ratios_and_what_is_shared(length: float) -> None:
    requests = [
        TracedRequest(1.0, 700, 100, (0, 7), 512),
        TracedRequest(1.0, 700, 3, (0, 8), 512),
        TracedRequest(4.0, 90, 1),
    ]
    found = list(scaled(requests, interval=0.5, length=length))
    assert [request.arrival_s for request in found] == [0.5, 0.5, 2.0]
    assert [request.num_prompt for request in found] == [round(700 * length)] * 2 + [round(90 * length)]
    assert min(request.num_output for request in found) >= 1
    first, second = (prompt_ids(request, number, 1000) for number, request in enumerate(found[:2]))
    shared = round(512 * length)
    assert np.array_equal(first[:shared], second[:shared])
    assert not np.array_equal(first[shared:], second[shared:])


def test_thinning_takes_the_first_and_each_so_many_th_after_it_at_their_times() -> None:
    requests = [TracedRequest(float(n), 10 + n, 1) for n in range(8)]
    found = list(scaled(requests, interval=2.0, every=3))
    assert [(one.arrival_s, one.num_prompt) for one in found] == [(0.0, 10), (6.0, 13), (12.0, 16)]


@pytest.mark.parametrize(
    "factors", [{"interval": 0.0}, {"length": -1.0}, {"length": float("nan")}, {"every": 0}]
)
def test_scaling_by_nothing_is_refused(factors: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        list(scaled([], **factors))


def servegen_folder(folder: Path, distribution: str = "Gamma", variation: float = 1.0) -> Path:
    for client, rate in ((0, 2.0), (3, 4.0)):
        rows = [f"0,{rate},{variation},{distribution},0.5,0.1", "600,0,0,,0,0"]
        write(folder / f"client-{client}-trace.csv.gz", "\n".join(rows) + "\n")
        shares = {"input_tokens": "{10: 0.5, 200: 0.5}", "output_tokens": "{3: 1.0}"}
        nothing = {"input_tokens": "{}", "output_tokens": "{}"}
        write(folder / f"client-{client}-dataset.json", json.dumps({"0": shares, "21600": nothing}))
    return folder


@pytest.mark.parametrize("distribution", ["Gamma", "Weibull"])
def test_servegen_clients_ask_at_their_rates_and_lengths(tmp_path: Path, distribution: str) -> None:
    requests = list(read_trace(servegen_folder(tmp_path, distribution), seed=1))
    assert all(first.arrival_s <= second.arrival_s for first, second in pairwise(requests))
    counts = [sum(request.tenant == f"client {number}" for request in requests) for number in (0, 3)]
    assert counts[0] == pytest.approx(1200, rel=0.25)
    assert counts[1] == pytest.approx(2400, rel=0.25)
    lengths = [request.num_prompt for request in requests]
    assert set(lengths) == {10, 200}
    assert lengths.count(10) == pytest.approx(len(lengths) / 2, rel=0.15)


def test_servegen_draws_are_repeated_by_their_seed(tmp_path: Path) -> None:
    folder = servegen_folder(tmp_path)
    first, again, other = (list(islice(read_trace(folder, seed=seed), 20)) for seed in (1, 1, 2))
    assert first == again != other


def test_servegen_bursts_are_as_uneven_as_stated(tmp_path: Path) -> None:
    requests = list(read_trace(servegen_folder(tmp_path, variation=4.0)))
    one = [request.arrival_s for request in requests if request.tenant == "client 0"]
    gaps = np.diff(one)
    assert gaps.std() / gaps.mean() == pytest.approx(4.0, rel=0.3)


def test_a_trace_can_begin_in_the_middle(tmp_path: Path) -> None:
    requests = list(read_trace(write(tmp_path / "a.csv", AZURE), start_s=4.0))
    assert [request.num_prompt for request in requests] == [396, 91]
    assert requests[0].arrival_s == pytest.approx(0.314579, abs=1e-5)
    drawn_late = list(read_trace(servegen_folder(tmp_path), start_s=500.0))
    assert max(request.arrival_s for request in drawn_late) < 100


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "a,b,c\n1,2,3\n"),
        ("a.csv", AZURE + "yesterday,1,2\n"),
        ("a.csv", AZURE + "2023-11-16 18:15:51.3910170,-1,2\n"),
        ("a.csv", AZURE + "2023-11-16 18:15:51.3910170,99999999999,2\n"),
        ("a.csv", AZURE + "2023-11-16 18:15:51.3910170,1\n"),
        ("a.csv", AZURE + "2023-11-16 18:15:51.3910170+00:00,1,1\n"),
        ("a.jsonl", "{"),
        ("a.jsonl", "[" * 100_000),
        ("a.jsonl", "3\n"),
        ("a.jsonl", mooncake_line(timestamp="soon")),
        ("a.jsonl", mooncake_line(timestamp=-1)),
        ("a.jsonl", mooncake_line(timestamp=float("nan"))),
        ("a.jsonl", mooncake_line(input_length=True)),
        ("a.jsonl", mooncake_line(hash_ids=[0])),
        ("a.jsonl", mooncake_line(hash_ids=None)),
        ("a.jsonl", '{"timestamp": 1}\n'),
    ],
)
def test_lines_that_are_no_requests_are_refused(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(BadFile):
        list(read_trace(write(tmp_path / name, text)))


def test_the_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"line 2 of a\.jsonl"):
        list(read_trace(write(tmp_path / "a.jsonl", mooncake_line() + "{\n")))


def test_broken_compression_and_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    whole = gzip.compress(AZURE.encode())
    for content in (whole[:40], b"no gzip at all", whole[:-9] + b"xxxxxxxxx"):
        (tmp_path / "a.csv.gz").write_bytes(content)
        with pytest.raises(BadFile):
            list(read_trace(tmp_path / "a.csv.gz"))
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadFile):
        list(read_trace(tmp_path / "b.csv"))


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", "0" * (5 << 20))
    with pytest.raises(BadFile, match="too long"):
        list(read_trace(path))


@pytest.mark.parametrize(
    ("trace", "dataset"),
    [
        ("0,1,1\n", None),
        ("0,nan,1,Gamma,1,1\n", None),
        ("0,1,1,Weibull,0,1\n", None),
        (None, "{}}"),
        (None, json.dumps({"0": {"input_tokens": "{1: 'x'}", "output_tokens": "{}"}})),
        (None, json.dumps({"0": {"input_tokens": "open('x')", "output_tokens": "{}"}})),
        (None, json.dumps({"0": {"input_tokens": "{-1: 1.0}", "output_tokens": "{}"}})),
        (None, json.dumps([1])),
        (None, json.dumps({"0": {"input_tokens": "[1]", "output_tokens": "{}"}})),
    ],
)
def test_servegen_files_that_make_no_sense_are_refused(
    tmp_path: Path, trace: str | None, dataset: str | None
) -> None:
    servegen_folder(tmp_path)
    if trace is not None:
        write(tmp_path / "client-0-trace.csv.gz", trace)
    if dataset is not None:
        write(tmp_path / "client-0-dataset.json", dataset)
    with pytest.raises(BadFile):
        list(read_trace(tmp_path))


def test_what_is_no_trace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_trace(tmp_path / "missing.csv")
    with pytest.raises(UsageError, match="no trace that can be replayed"):
        read_trace(write(tmp_path / "a.txt", ""))
    with pytest.raises(NotFound, match="no ServeGen clients"):
        read_trace(tmp_path)


def test_drawn_requests_come_at_their_rate_in_bursts_and_share_what_is_asked() -> None:
    requests = list(islice(drawn(5.0, 100, 20, burst=4, shared=0.5, tenants=3, seed=1), 4000))
    assert requests[-1].arrival_s == pytest.approx(800, rel=0.15)
    assert np.mean([request.num_prompt for request in requests]) == pytest.approx(100, rel=0.1)
    assert np.mean([request.num_output for request in requests]) == pytest.approx(20, rel=0.1)
    assert len({request.arrival_s for request in requests}) == 1000
    assert len({request.tenant for request in requests}) == 3
    assert len({request.prefix[0] for request in requests}) == 8
    one, other = (next(r for r in requests[start:] if r.prefix[0] == 3) for start in (0, 2000))
    shared = min(one.piece_tokens, other.piece_tokens)
    assert np.array_equal(prompt_ids(one, 1, 99)[:shared], prompt_ids(other, 2, 99)[:shared])


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"num_prompt": 0}, {"burst": 0}, {"shared": 2.0}])
def test_draws_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ApportionError):
        drawn(**{"rate": 1.0, "num_prompt": 10, "num_output": 10, **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "count", "mean_prompt"),
    [
        ("azure_llm_2023/conv.first_half.csv.gz", 9683, 1236.96),
        ("azure_llm_2023/code.first_half.csv.gz", 4409, 2040.78),
        ("mooncake/conversation_trace.first_half.jsonl.gz", 5606, 12934.5),
    ],
)
def test_published_traces_are_read_to_their_last_line(path: str, count: int, mean_prompt: float) -> None:
    if not (DATA / path).exists():
        pytest.skip("the published traces are not part of the project")
    requests = list(read_trace(DATA / path))
    assert len(requests) == count
    assert np.mean([request.num_prompt for request in requests]) == pytest.approx(mean_prompt, rel=1e-4)
