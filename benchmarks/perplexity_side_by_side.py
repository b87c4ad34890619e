"""Perplexity by apportion beside llama.cpp's: the same file, the same text, the same windows.

    python benchmarks/perplexity_side_by_side.py MODEL.gguf TEXT --ctx 512 --windows 60

Needs `llama-perplexity` on the PATH. The difference is apportion's figure by llama.cpp's, less one: below
zero, apportion finds the text likelier. Prints Markdown, or with --json one object.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from dataclasses import asdict
from typing import Any

from peers import require_program, run_program

FINAL = re.compile(r"Final estimate: PPL = ([0-9.]+) \+/- ([0-9.]+)")


def main() -> None:
    wanted = arguments()
    require_program("llama-perplexity")
    report = measure(wanted)
    print(json.dumps(report) if wanted.json else markdown(report))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a GGUF file")
    parser.add_argument("text", help="a UTF-8 text file")
    parser.add_argument("--ctx", type=int, default=512, help="tokens of a window [default: 512]")
    parser.add_argument("--windows", type=int, help="only so many, from the first [default: all]")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--exact", action="store_true", help="apportion computes in float32 throughout")
    parser.add_argument("--llama", default="", help="more words for llama-perplexity, as '-ctk f32'")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(wanted: argparse.Namespace) -> dict[str, Any]:
    found = {}
    for name, run in (("apportion", run_apportion), ("llama.cpp", run_llama)):
        print(name, file=sys.stderr)
        found[name] = run(wanted)
    from apportion.bench.provenance import provenance  # after all runs: it is large

    return {
        "model": wanted.model,
        "text": wanted.text,
        "ctx": wanted.ctx,
        "windows": wanted.windows,
        "exact": wanted.exact,
        "llama_arguments": wanted.llama,
        "perplexity": {name: one[0] for name, one in found.items()},
        "error": {name: one[1] for name, one in found.items()},
        "difference": found["apportion"][0] / found["llama.cpp"][0] - 1,
        "provenance": asdict(provenance()),
    }


def run_apportion(wanted: argparse.Namespace) -> tuple[float, float]:
    """The perplexity and its standard error."""
    command = [sys.executable, "-m", "apportion", "eval", "perplexity", wanted.model, wanted.text, "--json"]
    words = ["--ctx", wanted.ctx, "--threads", wanted.threads]
    if wanted.windows:
        words += ["--limit-windows", wanted.windows]
    if wanted.exact:
        words.append("--exact")
    shown = json.loads(run_program([*command, *words]).out)
    return shown["perplexity"], shown["error"]


def run_llama(wanted: argparse.Namespace) -> tuple[float, float]:
    command = [
        "llama-perplexity",
        "-m",
        wanted.model,
        "-f",
        wanted.text,
        "-c",
        wanted.ctx,
        "-t",
        wanted.threads,
    ]
    if wanted.windows:
        command += ["--chunks", wanted.windows]
    done = run_program([*command, *shlex.split(wanted.llama)])
    final = FINAL.search(done.out + done.err)
    if final is None:
        sys.exit(f"error: llama-perplexity printed no final estimate\n{done.err[-2000:]}")
    return float(final[1]), float(final[2])


def markdown(report: dict[str, Any]) -> str:
    from apportion.bench.kernel_table import aligned

    ours, theirs = (
        f"{report['perplexity'][name]:.4f} ± {report['error'][name]:.4f}"
        for name in ("apportion", "llama.cpp")
    )
    windows = str(report["windows"] or "all")
    row = [report["model"], str(report["ctx"]), windows, ours, theirs, f"{report['difference']:+.2%}"]
    return aligned([["model", "ctx", "windows", "apportion", "llama.cpp", "difference"], row])


if __name__ == "__main__":
    main()
