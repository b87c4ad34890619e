"""The comparison with llama.cpp's server, over a stand-in: our own server under its name and words."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks import serve_side_by_side
from benchmarks.serve_side_by_side import Line, markdown, row_of
from tests.models.tiny import tiny_gguf

LLAMA_SERVER = """
import json, os, sys
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
with open({calls!r}, "a") as calls:
    calls.write(json.dumps(words) + "\\n")
ctx = str(int(words["-c"]) // int(words["-np"]))
os.execv(sys.executable, [
    sys.executable, "-m", "apportion", "serve", words["-m"], "--port", words["--port"], "--ctx", ctx,
    "--concurrency", words["-np"], "--threads", "1", "--offline",
])
"""


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    program = tmp_path / "llama-server"
    program.write_text(f"#!{sys.executable}\n{LLAMA_SERVER.format(calls=str(tmp_path / 'calls'))}")
    program.chmod(0o755)
    return tmp_path


def run(words: list[object], capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["script.py", *map(str, words)])
        serve_side_by_side.main()
    return capsys.readouterr()


def test_both_serve_the_same_load_in_turn(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = tiny_gguf("llama", tmp_path), tmp_path / "out.json"
    words = [model, "--llama", llama, "--clients", "1,2", "--requests", 2, "--prompt", 60, "--output", 3]
    said, err = run([*words, "--threads", 1, "--rounds", 1, "--out", out], capsys)
    report = json.loads(out.read_text())
    lines = [(one["clients"], one["program"]) for one in report["results"]]
    assert lines == [(1, "apportion"), (1, "llama.cpp"), (2, "apportion"), (2, "llama.cpp")]
    for one in report["results"]:
        assert one["failed"] == []
        (round_,) = one["rounds"]
        assert (round_["answered"], round_["output_tokens"]) == (2, 6)
        assert one["output_tok_s"] == round_["output_tok_s"]
    called = json.loads((tmp_path / "calls").read_text())
    assert (called["-np"], called["-t"], called["-c"]) == ("2", "1", str(2 * (60 + 3 + 64)))
    assert set(report["peak_rss_bytes"]) == {"apportion", "llama.cpp"}
    assert [line.rpartition(": ")[2] for line in err.splitlines() if "round" in line] == [
        "apportion",
        "llama.cpp",
    ]
    assert said.count("| apportion |") == 2
    assert model.name in said


def test_a_trace_is_served_by_each_scheduler_and_by_the_other(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace, out = tmp_path / "trace.csv", tmp_path / "out.json"
    rows = [f"2023-11-16 18:15:4{n}.0000000,120,{2 * n + 2}\n" for n in range(5)]
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(rows))
    words = [tiny_gguf("llama", tmp_path), "--llama", llama, "--clients", "3", "--scheduler", "chunked,fcfs"]
    words += ["--trace", trace, "--interval", 0.1, "--length", 0.5, "--every", 2, "--requests", 3]
    said, _ = run([*words, "--threads", 1, "--rounds", 1, "--out", out], capsys)
    report = json.loads(out.read_text())
    lines = [(one["clients"], one["program"]) for one in report["results"]]
    assert lines == [(3, "apportion chunked"), (3, "apportion fcfs"), (3, "llama.cpp")]
    for one in report["results"]:
        (round_,) = one["rounds"]
        assert (round_["load"], round_["answered"]) == ("trace.csv", 3)
        assert round_["output_tokens"] == 1 + 3 + 5
    called = json.loads((tmp_path / "calls").read_text())
    assert (called["-np"], called["-c"]) == ("3", str(3 * ((60 + 5) * 17 // 16 + 64)))
    assert "3 requests of trace.csv, one in 2,\n0.1 times as far apart, lengths times 0.5" in said


def test_when_the_time_is_over_nothing_is_begun(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    words = [tiny_gguf("llama", tmp_path), "--llama", llama, "--minutes", 0, "--out", out, "--json"]
    said, _ = run(words, capsys)
    report = json.loads(said)
    assert report["results"] == []
    assert report["notes"] == ["the time was over in round 1", "the time was over in round 2"]


def test_a_server_that_does_not_start_ends_it_with_its_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\necho no such model >&2\nexit 1\n")
    program.chmod(0o755)
    words = [tiny_gguf("llama", tmp_path), "--llama", program, "--clients", "1", "--requests", 1]
    with pytest.raises(SystemExit, match="no such model"):
        run([*words, "--prompt", 60, "--output", 2, "--out", tmp_path / "out.json"], capsys)


def test_apportion_is_told_the_scheduler(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [tiny_gguf("llama", tmp_path), "--llama", llama, "--clients", "1", "--scheduler", "made_up"]
    words += ["--requests", 1, "--prompt", 60, "--output", 2, "--rounds", 1]
    with pytest.raises(SystemExit, match="made_up"):
        run([*words, "--out", tmp_path / "out.json"], capsys)


def figures(ttft: float, failed: dict[str, int]) -> dict[str, Any]:
    spread = {"p50": ttft, "p99": 2 * ttft}
    return {
        "ttft_s": spread,
        "tpot_s": None,
        "gap_s": spread,
        "output_tok_s": 10 * ttft,
        "goodput_per_s": 1.0,
        "well_served": 0.5,
        "failed": failed,
    }


def test_a_row_is_the_medians_of_its_rounds_and_tells_what_failed() -> None:
    row = row_of(Line("llama.cpp", 4), [figures(t, {}) for t in (1.0, 3.0)] + [figures(2.0, {"HTTP 503": 2})])
    assert (row["ttft_s_p50"], row["ttft_s_p99"], row["tpot_s_p50"], row["output_tok_s"]) == (2, 4, None, 20)
    report = {
        "model": "m",
        "ram": 1 << 30,
        "threads": 2,
        "prompt": 1,
        "output": 2,
        "trace": None,
        "rounds": 3,
        "slo": {"ttft_s": 1, "tpot_s": 0.1},
        "llama_words": "",
        "peak_rss_bytes": {"llama.cpp": 5_000_000},
        "notes": ["the time was over"],
        "results": [row],
        "provenance": {"processor": "p", "commit": "c", "date": "d", "load_average": 1.0},
    }
    said = markdown(report)
    assert "| 4       | llama.cpp |      2000.0 | 4000.0 |           - |" in said
    assert "The time was over. Llama.cpp at 4 clients gave no answer: 2 HTTP 503." in said
    assert "a limit of 1.07 GB" in said
