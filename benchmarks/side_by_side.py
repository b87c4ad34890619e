"""apportion beside llama.cpp: the same file, the same lengths, A B A B, so that both see the same machine.

    python benchmarks/side_by_side.py MODEL.gguf --prompt 512 --decode 128 --threads 2 --rounds 5

Needs `llama-bench` on the PATH. Prints a table, and with --json one object. Every round runs each program
once in a process of its own; a figure is the median of the rounds, beside the smallest and the largest.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from typing import Any

Line = tuple[str, int]  # phase, tokens
Rates = dict[Line, list[float]]


def main() -> None:
    wanted = arguments()
    if shutil.which("llama-bench") is None:
        sys.exit(
            "error: llama-bench is not on the PATH\n  hint: build llama.cpp and add its build/bin to PATH"
        )
    rates: dict[str, Rates] = {"apportion": defaultdict(list), "llama.cpp": defaultdict(list)}
    peers = {"apportion": run_apportion, "llama.cpp": run_llama}
    for turn in range(wanted.rounds):
        for name, run in peers.items():
            print(f"round {turn + 1} of {wanted.rounds}: {name}", file=sys.stderr)
            for line, rate in run(wanted).items():
                rates[name][line].append(rate)
    rows = [row(line, rates) for line in rates["apportion"]]
    if wanted.json:
        print(
            json.dumps(
                {"model": wanted.model, "threads": wanted.threads, "rounds": wanted.rounds, "results": rows}
            )
        )
    else:
        print_table(rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a GGUF file")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--decode", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def run_apportion(wanted: argparse.Namespace) -> dict[Line, float]:
    command = [sys.executable, "-m", "apportion", "bench", wanted.model, "--json", "--repetitions", "1"]
    lengths = ["--prompt", wanted.prompt, "--decode", wanted.decode, "--threads", wanted.threads]
    found = output([*command, *map(str, lengths)])
    return {(one["phase"], one["tokens"]): one["tok_s"]["median"] for one in found["results"]}


def run_llama(wanted: argparse.Namespace) -> dict[Line, float]:
    command = ["llama-bench", "-m", wanted.model, "-r", "1", "-o", "json"]
    lengths = ["-p", wanted.prompt, "-n", wanted.decode, "-t", wanted.threads]
    rates = {}
    for one in output([*command, *map(str, lengths)]):
        phase = "prefill" if one["n_prompt"] else "decode"
        rates[phase, one["n_prompt"] or one["n_gen"]] = float(one["avg_ts"])
    return rates


def output(command: list[str]) -> Any:
    """The JSON that a program prints; the program's own words if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {command[0]} failed ({done.returncode})\n{done.stderr}{done.stdout}")
    return json.loads(done.stdout)


def row(line: Line, rates: dict[str, Rates]) -> dict[str, Any]:
    figures = {
        name: {"median": statistics.median(of[line]), "min": min(of[line]), "max": max(of[line])}
        for name, of in rates.items()
    }
    ratio = figures["apportion"]["median"] / figures["llama.cpp"]["median"]
    return {"phase": line[0], "tokens": line[1], "tok_s": figures, "ratio": ratio}


def print_table(rows: list[dict[str, Any]]) -> None:
    print(f"{'phase':<8} {'tokens':>6}  {'apportion tok/s':>26}  {'llama.cpp tok/s':>26}  {'ratio':>6}")
    for one in rows:
        cells = (
            f"{rate['median']:.1f} ({rate['min']:.1f} to {rate['max']:.1f})" for rate in one["tok_s"].values()
        )
        ours, theirs = cells
        print(f"{one['phase']:<8} {one['tokens']:>6}  {ours:>26}  {theirs:>26}  {one['ratio']:>6.2f}")


if __name__ == "__main__":
    main()
