"""What guessing ahead gains where experts come and go: bytes read and tokens a second by how far is guessed.

    python benchmarks/guessed_windows.py olmoe.packed.gguf --ram 2GiB
    python benchmarks/guessed_windows.py olmoe.packed.gguf --ram 2GiB --routes local.routes --json

Guesses are the answer itself, of which a share is spoilt, so that how often they are right is given and not
measured: 0 guesses is one token at a time. Answers are drawn at temperature 1 from one seed and compared.
Routes from a file stand in place of the router's, so that a model of random weights asks as a real one does;
all guesses are then right, because a wrong one would shift them.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from apportion import LLM, SamplingParams
from apportion.bench.kernel_table import aligned
from apportion.bench.routes import replay_of
from apportion.formats.routes import RoutesFile
from apportion.models.units import model_units

PROMPT_TOKENS = 64


class Known:
    """Guesses an answer that is known, each token right with a chance."""

    def __init__(self, answer: tuple[int, ...], num_prompt: int, length: int, right: float) -> None:
        self._answer = np.array(answer, np.int32)
        self._num_prompt = num_prompt
        self._length = length
        self._spoilt = np.random.default_rng(1).random(len(answer)) >= right

    def propose(self, ids: np.ndarray, most: int) -> np.ndarray:
        first = len(ids) - self._num_prompt
        places = slice(first, first + min(most, self._length))
        return np.where(self._spoilt[places], 0, self._answer[places]).astype(np.int32)

    def took(self, proposed: int, accepted: int, seconds: float) -> None:
        return None


def main() -> None:
    wanted = arguments()
    report = measure(wanted)
    print(json.dumps(report) if wanted.json else markdown(report))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a model with experts")
    parser.add_argument("--ram", help="what the whole process may take")
    parser.add_argument("--guesses", default="0,1,3,7", help="tokens guessed at a time [default: 0,1,3,7]")
    parser.add_argument("--right", type=float, default=1.0, help="share of right guesses [default: 1]")
    parser.add_argument("--routes", type=Path, help="a routes file, as `apportion trace` makes them")
    parser.add_argument("--tokens", type=int, default=48, help="of the answer [default: 48]")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(wanted: argparse.Namespace) -> dict[str, Any]:
    lengths = [int(word) for word in wanted.guesses.split(",")]
    rows = []
    with LLM(wanted.model, ram=wanted.ram, ctx=512) as llm:
        begin_routes(llm, wanted.routes)
        prompt = list(range(300, 300 + PROMPT_TOKENS))
        params = SamplingParams(temperature=1.0, seed=1, max_tokens=wanted.tokens, ignore_eos=True)
        answer = llm.generate(prompt, params).token_ids  # also brings the slots into use
        for length in lengths:
            print(f"{length} guesses", file=sys.stderr)
            begin_routes(llm, wanted.routes)
            rows.append(run(llm, prompt, params, answer, length, wanted.right))
    from apportion.bench.provenance import provenance

    return {
        "model": llm.name,
        "ram": wanted.ram,
        "right": wanted.right,
        "routes": wanted.routes and wanted.routes.name,
        "rows": rows,
        "provenance": asdict(provenance()),
    }


def begin_routes(llm: LLM, path: Path | None) -> None:
    """From the first token of the file on."""
    if path is None:
        return
    checkpoint, config = llm.loaded.checkpoint, llm.model.config
    with RoutesFile(path) as routes:
        units = model_units(config, checkpoint.tensors)
        llm.model.residency.on_route = replay_of(routes, config, units, 4096)


def run(
    llm: LLM, prompt: list[int], params: SamplingParams, answer: tuple[int, ...], length: int, right: float
) -> dict[str, Any]:
    """Decode the answer once more with so many guesses at a time."""
    drafter = Known(answer, len(prompt), length, right)
    request = llm.request(np.array(prompt, np.int32), params, drafter=drafter, salt=str(length))
    stream = llm.submit(request)
    next(stream)  # the prompt is read
    steps, read = llm.engine.counters.steps, read_nbytes(llm)
    done = stream.run()
    assert done.token_ids == answer, "guesses changed the answer"
    tokens = done.output_tokens - 1
    return {
        "guesses": length,
        "tokens_per_step": tokens / (llm.engine.counters.steps - steps),
        "read_nbytes_per_token": (read_nbytes(llm) - read) / tokens,
        "tok_s": done.timings.decode_tok_s,
    }


def read_nbytes(llm: LLM) -> int:
    """Bytes of experts that were read so far."""
    if llm.model.residency is None:
        return 0
    checkpoint, counters = llm.loaded.checkpoint, llm.model.residency.counters
    layers = model_units(llm.model.config, checkpoint.tensors).layers
    nbytes = max(layer.expert_nbytes for layer in layers)
    return nbytes * (counters.misses + counters.prefill_misses)


def markdown(report: dict[str, Any]) -> str:
    rows = [
        [
            str(row["guesses"]),
            f"{row['tokens_per_step']:.2f}",
            f"{row['read_nbytes_per_token'] / 2**20:.0f}",
            f"{row['tok_s']:.2f}",
        ]
        for row in report["rows"]
    ]
    head = ["guesses", "tokens a step", "MiB read a token", "tokens a second"]
    made = report["provenance"]
    title = f"{report['model']} within {report['ram']}, {report['right']:.0%} of guesses right"
    machine = f"{made['processors']} of {made['processor']}, load {made['load_average']:.1f}"
    return f"{title}; {machine}, commit {made['commit'][:7]}\n\n{aligned([head, *rows])}"


if __name__ == "__main__":
    main()
