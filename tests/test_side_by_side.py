"""The comparison with llama.cpp, over a stand-in for its `llama-bench`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from benchmarks import side_by_side
from tests.models.tiny import tiny_gguf

STAND_IN = """#!/bin/sh
echo '[{"n_prompt": 16, "n_gen": 0, "avg_ts": 200.0}, {"n_prompt": 0, "n_gen": 4, "avg_ts": 50.0}]'
"""


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    model = str(tiny_gguf("llama", tmp_path))
    given = [model, "--prompt", "16", "--decode", "4", "--threads", "1", "--rounds", "2"]
    monkeypatch.setattr(sys, "argv", ["side_by_side.py", *given, "--json"])
    return given


def test_both_run_in_turn_and_their_medians_stand_side_by_side(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    peer = tmp_path / "llama-bench"
    peer.write_text(STAND_IN)
    peer.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    side_by_side.main()
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert [(one["phase"], one["tokens"]) for one in found["results"]] == [("prefill", 16), ("decode", 4)]
    for one, theirs in zip(found["results"], (200.0, 50.0), strict=True):
        assert one["tok_s"]["llama.cpp"] == {"median": theirs, "min": theirs, "max": theirs}
        assert one["ratio"] == pytest.approx(one["tok_s"]["apportion"]["median"] / theirs)
    turns = [line.rpartition(": ")[2] for line in err.splitlines()]
    assert turns == ["apportion", "llama.cpp", "apportion", "llama.cpp"]


def test_without_llama_bench_the_error_says_where_to_get_it(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="hint: build llama"):
        side_by_side.main()
