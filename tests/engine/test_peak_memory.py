"""The budget is the process: the peak of a whole run stays within it to the byte, by the system's account."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks.make_random_model import LETTERS, SHAPES, make
from tests.control_group import limit_file

from apportion.core.units import MiB
from apportion.formats.blocks import format_by_name

SHAPE = replace(
    SHAPES["olmoe"],
    layers=5,
    hidden=512,
    heads=8,
    kv_heads=8,
    head_size=64,
    experts=32,
    experts_used=4,
    expert_size=512,
    vocabulary=12_000,
    context=2048,
)
CTX, ANSWER = 1024, 8
PROMPT = "".join(random.Random(5).choice(LETTERS + " ") for _ in range(900))

# The command line, and the peak of its process as the last line of stderr.
WORK = """
import sys
from apportion.cli import main
from apportion.core.resident import peak_rss_bytes
try:
    main(sys.argv[1:])
finally:
    print(peak_rss_bytes(), file=sys.stderr)
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run printed, for programs and for people, and its peak in bytes."""

    told: dict[str, Any]
    said: str
    peak: int


def run(model: Path, *words: str, group: Path | None = None) -> Outcome:
    """`apportion run` in a process of its own, inside a control group if one is given."""
    options = ["--raw", "-n", str(ANSWER), "-t", "0", "--repetition-penalty", "1.5", "--ignore-eos"]
    return call("run", str(model), PROMPT, *options, "--ctx", str(CTX), *words, group=group)


def call(*words: str, group: Path | None = None) -> Outcome:
    enter = f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\n" if group else ""
    command = [sys.executable, "-c", enter + WORK, *words, "--json", "--threads", "2", "--offline"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode >= 0, f"killed by signal {-done.returncode}"
    return Outcome(json.loads(done.stdout), done.stderr, int(done.stderr.split()[-1]))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "random.gguf"
    make(SHAPE, path, format_by_name("q4_0"))
    return path


@pytest.fixture(scope="module")
def whole(model: Path) -> Outcome:
    """A run that has no budget."""
    return run(model)


@pytest.fixture(scope="module")
def smallest(model: Path) -> int:
    """The budget that the refusal of a smaller one names."""
    refused = run(model, "--ram", "1MiB")
    numbers = refused.told["error"]["numbers"]
    return int(numbers["smallest_budget"])


# Beyond the smallest budget: layers stream and experts have 2 slots; experts alone come and go, in some
# slots and in most.
BUDGETS = {"the smallest": 0, "some experts": 16 * MiB, "most experts": 34 * MiB}
IN_GROUPS = ("the smallest", "most experts")


@pytest.mark.parametrize("name", BUDGETS)
def test_the_peak_stays_within_the_budget_and_the_answer_the_same(
    model: Path, whole: Outcome, smallest: int, name: str
) -> None:
    budget = smallest + BUDGETS[name]
    assert budget < whole.peak
    outcome = run(model, "--ram", str(budget))
    assert outcome.told["token_ids"] == whole.told["token_ids"]
    assert outcome.told["prompt_tokens"] > 400
    assert "% of it in memory" in outcome.said
    assert 0.7 * budget < outcome.peak <= budget


@pytest.mark.parametrize("name", IN_GROUPS)
def test_a_container_of_the_budget_and_a_twentieth_is_enough(
    model: Path, whole: Outcome, smallest: int, group: Path, name: str
) -> None:
    budget = smallest + BUDGETS[name]
    limit_file(group).write_text(str(budget * 21 // 20))
    outcome = run(model, "--ram", str(budget), group=group)
    assert outcome.told["token_ids"] == whole.told["token_ids"]
    assert outcome.peak <= budget
    assert kills(group) == 0


def test_scoring_a_text_stays_within_the_budget(model: Path, smallest: int, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text(4 * PROMPT)
    words = ("eval", "perplexity", str(model), str(text), "--ctx", "512")
    whole, budget = call(*words), smallest + 60 * MiB
    outcome = call(*words, "--ram", str(budget))
    assert outcome.told["perplexity"] == whole.told["perplexity"]
    assert "% of it in memory" in outcome.said
    assert outcome.peak <= budget


def kills(group: Path) -> int:
    """Processes that the system killed in the group for lack of memory."""
    for name in ("memory.events", "memory.oom_control"):
        file = group / name
        if file.exists():
            counts = dict(line.split() for line in file.read_text().splitlines())
            return int(counts.get("oom_kill", 0))
    return 0
