"""`apportion eval tasks` beside the real `lm-eval`, where that is installed; what is made of its samples."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from benchmarks import lm_eval_side_by_side
from benchmarks.lm_eval_side_by_side import Compared, compared, logprobs_of, markdown
from tests.models.tiny import tiny_gguf


def lines(path: Path, values: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value) + "\n" for value in values))


def test_answers_are_compared_item_by_item(tmp_path: Path) -> None:
    lines(
        tmp_path / "each.jsonl",
        [
            {"task": "t", "item": 0, "logprobs": [-1.0, -2.0], "right": True},
            {"task": "t", "item": 1, "logprobs": [-3.0, -2.5], "right": False},
            {"task": "other", "item": 0, "logprobs": [-1.0], "right": True},
        ],
    )
    lines(
        tmp_path / "samples" / "model" / "samples_apportion_t_2026.jsonl",
        [
            {"doc_id": 1, "filtered_resps": [["-2.4", "False"], ["-2.5", "False"]], "acc": 1.0},
            {"doc_id": 0, "filtered_resps": [["-1.0", "False"], ["-2.0", "False"]], "acc": 1.0},
        ],
    )
    found = compared("t", tmp_path)
    assert (found.items, found.same, found.ours, found.theirs) == (2, 1, 0.5, 1.0)
    assert found.largest == pytest.approx(0.6)
    assert "| t    |     2 |           1 |" in markdown("m", [found])


def test_a_single_choice_is_logged_as_one_pair() -> None:
    assert logprobs_of({"filtered_resps": ["-1.5", "True"]}) == [-1.5]
    assert logprobs_of({"filtered_resps": [["-1.5", "True"], ["-2", "False"]]}) == [-1.5, -2.0]


def test_the_real_program_through_the_server_finds_what_is_found_in_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("lm_eval") is None:
        pytest.skip("needs lm_eval on the PATH: pip install 'lm-eval[api]', the extra `lm-eval`")
    lines(
        tmp_path / "choose.jsonl",
        [
            {"query": f"Question: does it rain {n} times?", "choices": ["no", "yes, always"], "gold": n % 2}
            for n in range(3)
        ],
    )
    lines(tmp_path / "say.jsonl", [{"context": "the rain in", "continuation": "spain"}])
    words = [str(tiny_gguf("llama", tmp_path)), str(tmp_path / "choose.jsonl"), str(tmp_path / "say.jsonl")]
    monkeypatch.setattr(sys, "argv", ["script.py", *words, "--ctx", "200", "--json"])
    assert lm_eval_side_by_side.main() == 0
    found = [Compared(**one) for one in json.loads(capsys.readouterr().out)]
    assert [(one.task, one.items, one.same) for one in found] == [("choose", 3, 3), ("say", 1, 1)]
    assert max(one.largest for one in found) < 1e-4
