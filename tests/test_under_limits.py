"""The comparison under limits of memory: what is run, what is made of it, and what is left behind."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from benchmarks import under_limits
from benchmarks.limited import memory_group, outcome_of, run_limited
from benchmarks.loop_mount import NoLoop, on_loop_device
from benchmarks.under_limits import (
    Row,
    bound_tok_s,
    last_line,
    llama_flags,
    note_ours,
    note_theirs,
    percents,
    rates_of,
    sizes,
    told,
)
from benchmarks.under_limits_plot import plot
from benchmarks.under_limits_table import HEAD, cells
from tests.models.tiny import tiny_gguf

from apportion.core.units import MiB

LLAMA_BENCH = """
import json, sys
if "--help" in sys.argv:
    print("  --repack <0|1>  (default: 1)\\n  -lm, --load-mode <auto|mmap>")
else:
    print(json.dumps({"n_prompt": 8, "n_gen": 0, "avg_ts": 40.0}))
    print(json.dumps({"n_prompt": 0, "n_gen": 4, "avg_ts": 2.5}))
"""


def run(outcome: str, out: str = "", seconds: float = 10.0) -> Any:
    return argparse.Namespace(
        outcome=outcome, out=out, err="", seconds=seconds, peak_rss_bytes=5, group_peak_bytes=7, read_bytes=9
    )


# --- words --------------------------------------------------------------------------------------------------


def test_limits_are_shares_of_the_file_or_sizes() -> None:
    assert percents("75,50%") == [0.75, 0.5]
    assert sizes("8GiB,1.5GB") == [8 << 30, 1_500_000_000]


@pytest.mark.parametrize("text", ["8", "x", "GiB", "8GB,"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises((argparse.ArgumentTypeError, ValueError)):
        sizes(text)


@pytest.mark.parametrize(
    ("known", "flags"),
    [
        ("--repack <0|1>\n-lm, --load-mode <auto>", ["--repack", "0", "--load-mode", "mmap"]),
        ("-nr, --no-repack \n-mmp, --mmap <0|1>", ["--no-repack", "--mmap", "1"]),
        ("--no-warmup  skip", ["--no-warmup"]),
        ("", []),
    ],
)
def test_llama_gets_only_words_that_it_knows(known: str, flags: list[str]) -> None:
    assert llama_flags(known) == flags


def test_the_error_is_what_a_program_said_of_it() -> None:
    assert last_line("loading\nerror: it does not fit\n  hint: more\n") == "error: it does not fit"
    assert last_line("one\ntwo\n") == "two"
    assert last_line("") == "it said nothing"


# --- figures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resident", "nbytes", "disk", "bound"),
    [(50.0, 1e8, 2.0, 20.0), (10.0, 1e8, 2.0, 10.0), (None, 1e8, 2.0, 20.0), (50.0, 0.0, 2.0, 50.0)],
)
def test_the_bound_is_the_slower_of_computing_and_reading(
    resident: float | None, nbytes: float, disk: float, bound: float
) -> None:
    assert bound_tok_s(resident, nbytes, disk) == pytest.approx(bound)


def test_without_computing_and_reading_there_is_no_bound() -> None:
    assert bound_tok_s(None, 0.0, 2.0) is None


def test_lines_that_were_cut_off_are_passed_over() -> None:
    line = json.dumps({"n_prompt": 8, "n_gen": 0, "avg_ts": 40.0})
    assert rates_of(f'{line}\n{{"n_prompt": 0, "n_ge') == {"prefill": 40.0}


WANTED = argparse.Namespace(prompt=8, decode=4)


def test_an_unfinished_phase_is_told_as_what_it_can_have_reached() -> None:
    row = Row(100, "llama.cpp", None)
    note_theirs(WANTED, row, run("unfinished", json.dumps({"n_prompt": 8, "avg_ts": 40.0}), seconds=20.0))
    assert row.phases["prefill"].tok_s == [40.0]
    assert row.phases["decode"].at_most == [4 / 20]


def test_a_killed_run_reached_nothing() -> None:
    row = Row(100, "llama.cpp", None)
    row.note(run("killed"))
    note_theirs(WANTED, row, run("killed"))
    shown = cells(told(row), 200)
    assert shown[0] == "0.00 GB (50%)"
    assert shown[3] == "killed"


def measured(limit: int = 2_000_000_000, tok_s: float = 10.0) -> Row:
    row = Row(limit, "apportion", None)
    row.note(run("done"))
    row.disk_GBps.append(1.0)
    decode = {
        "phase": "decode",
        "tok_s": {"median": tok_s},
        "forecast_tok_s": {"value": 12.0},
        "forecast_error": 0.2,
        "given_disk_error": -0.1,
        "reading_GBps": {"median": 0.75},
        "disk_bytes_per_token": {"median": 5e7},
        "stall_share": {"median": 0.5},
        "hit_rate": {"median": 0.75},
    }
    nothing_read = {"disk_bytes_per_token": None, "reading_GBps": None, "given_disk_error": None}
    prefill = decode | nothing_read | {"phase": "prefill", "hit_rate": None}
    plan = {"bytes": {"kv": 30, "reserve": 4}, "hit_rate": 0.7}
    note_ours(row, {"plan": plan, "results": [decode, prefill]}, {"decode": 40.0, "prefill": 100.0}, 1.0)
    return row


def test_a_row_has_speed_forecast_and_share_of_the_bound() -> None:
    row = measured()
    assert row.plan_nbytes == 30
    shown = cells(told(row), 4_000_000_000)
    of = dict(zip(HEAD, shown, strict=True))  # the prompt's, where a word stands twice
    assert shown[3:6] == ["10.0 (10.0 to 10.0)", "12.0 (+20%; -10%)", "50%; 67%"]
    assert (of["hits"], of["a token reads"]) == ("75.0% (70.0%)", "50.0 MB")
    assert shown[8] == "0.75 (0.75 to 0.75)"
    assert of["VmHWM"] == "0.00 GB (+500.0%)", "5 bytes, 30 by the plan"
    assert of["of bound"] == "10%; 10%", "a prompt that reads nothing is bound by computing"
    assert (of["forecast"], of["disk gave"]) == ("12.0 (+20%)", "-")


def test_the_plot_has_a_line_for_each_program_and_its_bound() -> None:
    rows = [told(measured(limit, tok_s)) for limit, tok_s in ((10**9, 4.0), (2 * 10**9, 9.0))]
    image = plot({"model": "a<b.gguf", "file_bytes": 4e9, "rows": rows})
    root = ElementTree.fromstring(image)
    tag = "{http://www.w3.org/2000/svg}"
    lines = [one.get("points", "").split() for one in root.iter(f"{tag}polyline")]
    assert [len(points) for points in lines] == [2, 2]
    (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in lines[0])
    assert x1 < x2
    assert y1 > y2, "faster is higher"
    assert "bound of apportion" in [one.text for one in root.iter(f"{tag}text")]


def test_a_plot_without_a_figure_is_a_picture_still() -> None:
    ElementTree.fromstring(plot({"model": "x", "file_bytes": 1, "rows": []}))


# --- running ------------------------------------------------------------------------------------------------


def test_a_program_that_takes_too_long_is_ended() -> None:
    words = "import time; print('begun', flush=True); time.sleep(60)"
    found = run_limited([sys.executable, "-c", words], None, 1.0)
    assert (found.outcome, found.out) == ("unfinished", "begun\n")
    assert found.seconds < 30


def test_a_program_that_fails_keeps_its_words() -> None:
    found = run_limited([sys.executable, "-c", "import sys; sys.exit('no')"], None, 20)
    assert (found.outcome, found.err.strip()) == ("failed", "no")


def test_a_kill_is_told_from_a_failure() -> None:
    assert [outcome_of(code, over=False) for code in (0, 1, -9, -11)] == [
        *("done", "failed", "killed", "failed")
    ]
    assert outcome_of(-9, over=True) == "unfinished"


def test_a_group_limits_what_runs_in_it_and_is_gone_afterwards() -> None:
    with memory_group(64 * MiB) as group:
        if group is None:
            pytest.skip("needs the right to make memory control groups")
        greedy = "b = bytearray(200 << 20); b[::4096] = b'1' * len(b[::4096])"
        assert run_limited([sys.executable, "-c", greedy], group, 30).outcome == "killed"
        modest = run_limited([sys.executable, "-c", "print(1)"], group, 30)
        assert (modest.outcome, modest.out) == ("done", "1\n")
    assert not group.exists()


def test_where_no_loop_device_can_be_had_the_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").write_bytes(b"x" * 5000)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoLoop, match=r"mkfs.ext4 is not installed"), on_loop_device(tmp_path / "model", 256):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@contextmanager
def no_loop(*_args: object) -> Iterator[Path]:
    raise under_limits.NoLoop("not here")
    yield Path()


def test_both_programs_run_in_turn_and_the_report_says_what_was_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_gguf("olmoe", tmp_path)
    llama = tmp_path / "llama-bench"
    llama.write_text(f"#!{sys.executable}\n{LLAMA_BENCH}")
    llama.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", "")  # set by the script, and put back after this test
    monkeypatch.setattr(under_limits, "on_loop_device", no_loop)
    monkeypatch.setattr(under_limits, "disk_rate", lambda wanted, file: 1.5)
    words = ["--limits", "600MiB", "--rounds", "1", "--prompt", "8", "--decode", "4", "--threads", "1"]
    files = ["--llama", tmp_path, "--out", tmp_path / "out.json", "--plot", tmp_path / "plot.svg"]
    monkeypatch.setattr(sys, "argv", ["under_limits.py", str(model), *words, *map(str, files)])
    under_limits.main()
    out, err = capsys.readouterr()
    assert [line.rpartition(": ")[2] for line in err.splitlines()] == ["apportion", "llama.cpp"]
    report = json.loads((tmp_path / "out.json").read_text())
    ours, theirs = report["rows"]
    assert ours["outcomes"] == theirs["outcomes"] == ["done"]
    assert ours["phases"]["decode"]["tok_s"]["median"] > 0
    assert ours["peak_rss_bytes"] < 600 * MiB
    assert theirs["phases"]["decode"]["tok_s"]["median"] == 2.5
    assert "read-ahead that suits it was left out: not here" in out
    assert "| llama.cpp" in out
    ElementTree.fromstring((tmp_path / "plot.svg").read_text())
