"""How many tokens a step gives where the text's own past is the guess: by kind of prompt and length of guess.

    python benchmarks/guessed_answers.py smollm2 question.jsonl --each 5

PROMPTS is a file of Spec-Bench's form: one JSON object a line with `category` and `turns`, of which the first
is asked (github.com/hemingkx/Spec-Bench). Answers are greedy; what the guesses would have been right about is
counted on the finished text, so the figures depend neither on the machine nor on its load.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from apportion import LLM, SamplingParams
from apportion.bench.kernel_table import aligned
from apportion.engine.speculation.ways.prompt_lookup import looked_up

LENGTHS = (1, 3, 7)


def main() -> None:
    wanted = arguments()
    rows = measure(wanted)
    print(json.dumps(rows) if wanted.json else markdown(rows))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--each", type=int, default=5, help="prompts of a category [default: 5]")
    parser.add_argument("--tokens", type=int, default=96, help="of an answer [default: 96]")
    parser.add_argument("--ctx", type=int, default=4096, help="longer prompts are left out [default: 4096]")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(wanted: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    params = SamplingParams(temperature=0, max_tokens=wanted.tokens)
    with LLM(wanted.model, ctx=wanted.ctx, concurrency=4) as llm:
        for category, questions in by_category(wanted.prompts).items():
            asked = [llm.chat_ids([{"role": "user", "content": text}]) for text in questions[: wanted.each]]
            asked = [ids for ids in asked if len(ids) + wanted.tokens <= wanted.ctx]
            done = llm.run([llm.request(ids, params, continues=False) for ids in asked])
            texts = [
                (len(ids), np.append(ids, answer.token_ids).astype(np.int32))
                for ids, answer in zip(asked, done, strict=True)
            ]
            rows.append({"category": category, "prompts": len(texts), **figures(texts)})
    return rows


def by_category(path: Path) -> dict[str, list[str]]:
    found = defaultdict(list)
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        for line in file:
            question = json.loads(line)
            found[question["category"]].append(question["turns"][0])
    return dict(found)


def figures(texts: list[tuple[int, np.ndarray]]) -> dict[str, Any]:
    """Tokens a step and the share of right guesses, by the length of guesses."""
    result = {}
    for length in LENGTHS:
        steps = [step for num_prompt, text in texts for step in steps_of(text, num_prompt, length)]
        proposed, right = map(sum, zip(*steps, strict=True))
        result[str(length)] = {"tokens_per_step": 1 + right / len(steps), "right": right / max(1, proposed)}
    return result


def steps_of(text: np.ndarray, num_prompt: int, length: int) -> list[tuple[int, int]]:
    """Of each decode step, how many tokens would have been guessed, and how many of them rightly."""
    steps, known = [], num_prompt + 1
    while known < len(text):
        guess = looked_up(text[:known], min(length, len(text) - known))
        equal = guess == text[known : known + len(guess)]
        right = int(np.argmin(np.append(equal, False)))
        steps.append((len(guess), right))
        known += right + 1
    return steps


def markdown(rows: list[dict[str, Any]]) -> str:
    head = ["kind of prompt", "prompts", *(f"{length} ahead" for length in LENGTHS)]
    cells = [
        [row["category"], str(row["prompts"])]
        + [f"{row[str(n)]['tokens_per_step']:.2f} ({row[str(n)]['right']:.0%})" for n in LENGTHS]
        for row in rows
    ]
    return aligned([head, *cells])


if __name__ == "__main__":
    main()
