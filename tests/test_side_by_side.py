"""The comparisons with llama.cpp, over stand-ins for its programs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks import perplexity_by_format, perplexity_side_by_side, side_by_side
from benchmarks.peers import run_program
from tests.models.tiny import tiny_gguf

LLAMA_BENCH = """
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
numbers = lambda name: [int(word) for word in words[name].split(",")]
print(json.dumps([
    {"n_prompt": prompt, "n_gen": gen, "n_depth": depth, "n_threads": threads, "avg_ts": prompt * 10 or 50.0}
    for threads in numbers("-t") for depth in numbers("-d")
    for prompt, gen in [*((n, 0) for n in numbers("-p")), *((0, n) for n in numbers("-n"))]
    if prompt or gen
]))
"""
LLAMA_PERPLEXITY = """
print("Final estimate: PPL = 300.5000 +/- 1.25000")
"""


@pytest.fixture
def peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the PATH with stand-ins that note how they were called."""
    for name, body in (("llama-bench", LLAMA_BENCH), ("llama-perplexity", LLAMA_PERPLEXITY)):
        log = f"open({str(tmp_path / 'calls')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')"
        (tmp_path / name).write_text(f"#!{sys.executable}\nimport json, sys\n{log}\n{body}")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(tiny_gguf("llama", tmp_path))


def printed(script: Any, words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["script.py", *words])
        script.main()
    return capsys.readouterr()


SPEED = ["--prompt", "16,32", "--decode", "4", "--threads", "1", "--rounds", "2"]


def test_both_run_in_turn_and_their_medians_stand_side_by_side(
    model: str, peers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = printed(side_by_side, [model, *SPEED, "--json"], capsys)
    found = json.loads(out)
    lines = [(one["phase"], one["tokens"], one["depth"], one["threads"]) for one in found["results"]]
    assert lines == [("prefill", 16, 0, 1), ("prefill", 32, 0, 1), ("decode", 4, 0, 1)]
    for one, theirs in zip(found["results"], (160.0, 320.0, 50.0), strict=True):
        ours = one["tok_s"]["apportion"]["median"]
        assert one["tok_s"]["llama.cpp"] == {"median": theirs, "min": theirs, "max": theirs}
        assert one["ratio"] == pytest.approx(ours / theirs)
        byte_rate = one["bytes_per_token"] / (found["bandwidth_gb_s"]["1"]["median"] * 1e9)
        assert one["bandwidth_share"]["apportion"] == pytest.approx(ours * byte_rate)
        assert one["bandwidth_share"]["llama.cpp"] == pytest.approx(theirs * byte_rate)
    assert all(nbytes > 5_000_000 for nbytes in found["peak_rss_bytes"].values())
    assert found["provenance"]["processor"]
    turns = [line.rpartition(": ")[2] for line in err.splitlines()]
    assert turns == ["apportion", "llama.cpp", "apportion", "llama.cpp"]


def test_prompts_are_read_from_an_empty_context_and_answers_begin_at_each_depth(
    model: str, peers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SPEED[:-1], "1", "--depth", "0,64", "--llama", "--repack 0"]
    out, _ = printed(side_by_side, [model, *words], capsys)
    calls = (peers / "calls").read_text().splitlines()
    assert [call.partition("json ")[2] for call in calls] == [
        "-p 16,32 -n 4 -d 0 -t 1 --repack 0",
        "-p 0 -n 4 -d 64 -t 1 --repack 0",
    ]
    rows = [[word.strip() for word in line.split("|")[1:-1]] for line in out.splitlines() if line[:1] == "|"]
    assert [row[:4] for row in rows[2:]] == [
        ["prefill", "16", "0", "1"],
        ["prefill", "32", "0", "1"],
        ["decode", "4", "0", "1"],
        ["decode", "4", "64", "1"],
    ]
    assert rows[2][5] == "160.0 (160.0 to 160.0)"
    assert "llama-bench with `--repack 0`" in out


def test_perplexities_stand_side_by_side_with_their_difference(
    model: str, peers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text"
    text.write_text("the art of ease and the heart of stone " * 20)
    words = [model, str(text), "--ctx", "32", "--windows", "3", "--threads", "1"]
    found = json.loads(printed(perplexity_side_by_side, [*words, "--json"], capsys)[0])
    assert found["perplexity"]["llama.cpp"] == 300.5
    assert found["error"]["llama.cpp"] == 1.25
    assert found["difference"] == pytest.approx(found["perplexity"]["apportion"] / 300.5 - 1)
    assert (peers / "calls").read_text() == f"-m {model} -f {text} -c 32 -t 1 --chunks 3\n"
    assert "300.5000 ± 1.2500" in printed(perplexity_side_by_side, words, capsys)[0]


def test_every_format_is_scored_by_default_exactly_and_by_llama_cpp(
    model: str, peers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text"
    text.write_text("the art of ease and the heart of stone " * 20)
    words = [model, str(text), "--formats", "q8_0,q2_k", "--ctx", "32", "--windows", "3", "--threads", "1"]
    q8_0, q2_k = json.loads(printed(perplexity_by_format, [*words, "--json"], capsys)[0])["results"]
    assert q8_0["format"] == "q8_0"
    assert 0.3 < q8_0["share"] < 1
    assert q2_k["share"] == 0, "rows of 64 numbers are not whole blocks of 256"
    assert q8_0["exact"] != q2_k["exact"]
    assert q8_0["default"] == pytest.approx(q8_0["exact"], rel=0.01)
    assert q8_0["llama.cpp"] == 300.5
    assert "q8_0.gguf -f " in (peers / "calls").read_text()


@pytest.mark.parametrize("script", [side_by_side, perplexity_side_by_side, perplexity_by_format])
def test_without_llama_cpp_the_error_says_where_to_get_it(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="hint: build llama"):
        printed(script, ["model.gguf", "text"][: 1 + (script is not side_by_side)], capsys)


def test_a_program_that_fails_leaves_its_own_words() -> None:
    with pytest.raises(SystemExit, match=r"failed \(3\)\nno such thing"):
        run_program([sys.executable, "-c", "import sys; sys.stderr.write('no such thing'); sys.exit(3)"])


def test_the_peak_of_a_program_is_its_own() -> None:
    command = "b = bytearray(600 << 20); b[::4096] = b[::4096].replace(b'\\0', b'1')"
    assert run_program([sys.executable, "-c", command]).peak_rss_bytes >= 600 << 20
