"""`apportion eval tasks` beside `lm-eval` through the server: the same items, and do both find the same?

    python benchmarks/lm_eval_side_by_side.py MODEL arc_easy.jsonl piqa.jsonl.gz --limit 50
    python benchmarks/lm_eval_side_by_side.py MODEL *.jsonl --lm-eval VENV/bin/lm_eval --ctx 1024

`lm-eval` (package `lm-eval[api]`, at best in an environment of its own) asks a server that is started for it:
local-completions, whose prompts come back with log-probabilities; the server's tokenizer serves it, too. It
never puts a beginning-of-sequence token before its texts, so neither does the other (`--no-bos`).
Nothing is fetched from anywhere. Prints Markdown, or with --json one object; the status is 1 if an item's
answer differs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from serve_side_by_side import free_port, ready, stop

PREFIX = "apportion_"


@dataclass(frozen=True, slots=True)
class Compared:
    """One task.

    Attributes:
        same: items of which both chose the same.
        largest: difference between two log-probabilities of the same choice.
        ours, theirs: accuracies.
    """

    task: str
    items: int
    same: int
    largest: float
    ours: float
    theirs: float


def main() -> int:
    wanted = arguments()
    with tempfile.TemporaryDirectory(prefix="apportion-lm-eval-") as name:
        folder = Path(name)
        tasks = exported(wanted, folder)
        with serving(wanted) as url:
            answer_through(url, wanted, tasks, folder)
        answer_in_process(wanted, folder)
        found = [compared(task.removeprefix(PREFIX), folder) for task in tasks]
    print(json.dumps([asdict(one) for one in found]) if wanted.json else markdown(wanted.model, found))
    return 0 if all(one.same == one.items for one in found) else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a file, or a name such as smollm2")
    parser.add_argument("files", nargs="+", type=Path, help="tasks, as `apportion eval tasks` reads them")
    parser.add_argument("--limit", type=int, default=50, help="items of each")
    parser.add_argument("--lm-eval", default="lm_eval", help="the program")
    parser.add_argument("--ctx", type=int, default=1024, help="the server's context, in tokens")
    parser.add_argument("--concurrent", type=int, default=4, help="requests at once")
    parser.add_argument("--minutes", type=float, default=10.0, help="that lm-eval may take")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    if shutil.which(wanted.lm_eval) is None:
        parser.error(f"there is no program {wanted.lm_eval}: pip install 'lm-eval[api]'")
    return wanted


def exported(wanted: argparse.Namespace, folder: Path) -> list[str]:
    """The tasks as `lm-eval` reads them; their names."""
    words = ["eval", "export", folder, *wanted.files, "--limit", wanted.limit, "--json"]
    names = json.loads(apportion(words))["tasks"]
    assert isinstance(names, list)
    return names


@contextmanager
def serving(wanted: argparse.Namespace) -> Iterator[str]:
    port = free_port()
    words = [sys.executable, "-m", "apportion", "serve", wanted.model, "--port", port, "--ctx", wanted.ctx]
    words += ["--concurrency", wanted.concurrent, "--log-level", "warning"]
    with tempfile.TemporaryFile("w+") as said:
        server = subprocess.Popen([str(word) for word in words], stdout=said, stderr=said, text=True)
        try:
            url = f"http://127.0.0.1:{port}"
            if not ready(f"{url}/ready", server):
                said.seek(0)
                sys.exit(f"error: the server does not become ready\n{said.read()[-2000:]}")
            yield url
        finally:
            stop(server)


def answer_through(url: str, wanted: argparse.Namespace, tasks: list[str], folder: Path) -> None:
    """Have `lm-eval` ask the server; what became of each item lies in the folder then."""
    terms = f"base_url={url}/v1/completions,model={model_at(url)},num_concurrent={wanted.concurrent}"
    words = [wanted.lm_eval, "run", "--model", "local-completions", "--include_path", folder]
    words += ["--model_args", f"{terms},max_length={wanted.ctx},tokenizer_backend=remote"]
    words += ["--tasks", ",".join(tasks), "--output_path", folder / "samples", "--log_samples"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    done = subprocess.run(
        [str(word) for word in words],
        env=os.environ | offline,
        capture_output=True,
        text=True,
        timeout=60 * wanted.minutes,
        check=False,
    )
    if done.returncode:
        sys.exit(f"error: {wanted.lm_eval} failed\n{done.stderr[-3000:]}")


def model_at(url: str) -> str:
    from apportion.bench.load.server import address_of, model_of

    return model_of(address_of(url), "")


def answer_in_process(wanted: argparse.Namespace, folder: Path) -> None:
    words = ["eval", "tasks", wanted.model, *wanted.files, "--limit", wanted.limit, "--no-bos"]
    apportion([*words, "--each", folder / "each.jsonl", "--json"])


def apportion(words: list[object]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "apportion", *map(str, words)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"error: apportion {words[0]} {words[1]} failed\n{done.stderr}")
    return done.stdout


def compared(task: str, folder: Path) -> Compared:
    """Both programs' answers, item by item."""
    ours = {one["item"]: one for one in read(folder / "each.jsonl") if one["task"] == task}
    (path,) = (folder / "samples").rglob(f"samples_{PREFIX}{task}_*.jsonl")
    theirs = {one["doc_id"]: one for one in read(path)}
    if ours.keys() != theirs.keys():
        sys.exit(f"error: {task}: lm-eval answered {len(theirs)} of {len(ours)} items")
    same, largest = 0, 0.0
    for item, one in ours.items():
        logprobs = logprobs_of(theirs[item])
        largest = max(largest, *(abs(a - b) for a, b in zip(one["logprobs"], logprobs, strict=True)))
        same += answer_of(one["logprobs"], one) == answer_of(logprobs, theirs[item])
    right = sum(one["right"] for one in ours.values()) / len(ours)
    told = sum(float(one["acc"]) for one in theirs.values()) / len(theirs)
    return Compared(task, len(ours), same, largest, right, told)


def answer_of(logprobs: list[float], one: dict[str, Any]) -> object:
    """The choice; where there is none, whether the model would have said it."""
    if len(logprobs) > 1:
        return logprobs.index(max(logprobs))
    return bool(one["acc"] if "acc" in one else one["right"])


def logprobs_of(sample: dict[str, Any]) -> list[float]:
    """Of each choice. `lm-eval` logs pairs of log-probability and greediness as text; where there is one
    choice, that pair alone.
    """
    told = sample["filtered_resps"]
    pairs = told if isinstance(told[0], list) else [told]
    return [float(pair[0]) for pair in pairs]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def markdown(model: str, found: list[Compared]) -> str:
    from apportion.bench.kernel_table import aligned

    head = ["task", "items", "same answer", "largest difference of log-probabilities", "accuracy", "lm-eval"]
    rows = [
        [
            one.task,
            str(one.items),
            str(one.same),
            f"{one.largest:.2g}",
            f"{one.ours:.3f}",
            f"{one.theirs:.3f}",
        ]
        for one in found
    ]
    return f"{aligned([head, *rows])}\n\n{model}"


if __name__ == "__main__":
    sys.exit(main())
