"""`apportion pack`: a packed file that every verb takes, inside the budget that was given."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.models.tiny import tiny_gguf

from apportion.core.units import MiB


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tiny_gguf("gpt_oss", tmp_path, block_format="q4_0")


def packed(apportion: Callable[..., Any], source: Path, *words: object) -> Any:
    return apportion("pack", source, source.with_name("packed.gguf"), *words)


def test_what_was_done_is_told(apportion: Callable[..., Any], source: Path) -> None:
    out = source.with_name("packed.gguf")
    outcome = packed(apportion, source)
    assert outcome.status == 0
    assert outcome.out == f"{out}\n"
    assert "peak" in outcome.err
    found = packed(apportion, source, "--force", "--json").object
    assert found.keys() == {"path", "bytes", "resumed_bytes", "seconds", "peak_rss_bytes", "notes"}
    assert (found["path"], found["bytes"]) == (str(out), out.stat().st_size)


def test_every_verb_takes_a_packed_file(apportion: Callable[..., Any], source: Path, tmp_path: Path) -> None:
    out = source.with_name("packed.gguf")
    assert packed(apportion, source).status == 0
    assert "packed gguf" in apportion("inspect", out).out
    facts = [apportion("inspect", path, "--json").object for path in (source, out)]
    assert [fact["packed"] for fact in facts] == [False, True]
    for key in ("architecture", "parameters", "bytes_by_format", "bytes_per_token", "kv_bytes_per_token"):
        assert facts[0][key] == facts[1][key], key
    checked = apportion("verify", out, "--json").object
    assert checked["ok"] is True
    assert checked["checks"] == ["layout", "numbers", "digests"]
    run = ("hello", "--max-tokens", 8, "--temperature", 0, "--json")
    assert apportion("run", out, *run).object["text"] == apportion("run", source, *run).object["text"]
    text = tmp_path / "text.txt"
    text.write_text("the rain in spain stays mainly in the plain " * 8)
    judged = [
        apportion("eval", "perplexity", path, text, "--ctx", 64, "--limit-windows", 2, "--json").object
        for path in (source, out)
    ]
    assert judged[0]["perplexity"] == judged[1]["perplexity"]
    bench = ("--prompt", 8, "--decode", 4, "--repetitions", 1, "--threads", 1, "--json")
    assert apportion("bench", out, *bench).status == 0


def test_a_changed_byte_is_found(apportion: Callable[..., Any], source: Path) -> None:
    assert packed(apportion, source).status == 0
    out = source.with_name("packed.gguf")
    data = bytearray(out.read_bytes())
    data[-1] ^= 1  # padding behind the last expert
    out.write_bytes(data)
    outcome = apportion("verify", out, "--json")
    assert outcome.status == 1
    assert [(f["kind"], f["tensor"]) for f in outcome.object["findings"]] == [("changed", "blk.2.experts.3")]


def test_refusals_say_what_to_do(apportion: Callable[..., Any], source: Path) -> None:
    assert packed(apportion, source).status == 0
    assert "--force" in packed(apportion, source).err
    small = packed(apportion, source, "--force", "--ram", "1MiB")
    assert small.status == 1
    assert "is the smallest that would do" in small.err
    assert packed(apportion, source, "--force", "--ram", "a lot").status == 2


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs /proc to tell the peak of a process"
)
@pytest.mark.parametrize("block_format", ["f32", "nvfp4"])
def test_the_whole_process_stays_within_the_smallest_budget(block_format: str, tmp_path: Path) -> None:
    source = tiny_gguf("olmoe", tmp_path, block_format=block_format)

    def run(budget: str) -> dict[str, Any]:
        words = ["pack", source, tmp_path / "packed.gguf", "--force", "--json", "--ram", budget]
        command = [sys.executable, "-m", "apportion", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        value = json.loads(done.stdout)
        assert isinstance(value, dict)
        return value

    smallest = run("20MiB")["error"]["numbers"]["need"] + 2 * MiB  # what one start takes more than another
    assert run(str(smallest))["peak_rss_bytes"] <= smallest
