"""apportion beside llama.cpp: the same file, the same lengths, A B A B, so that both see the same machine.

    python benchmarks/side_by_side.py MODEL.gguf --prompt 512,2048 --decode 128 --threads 2 --rounds 5

Needs `llama-bench` on the PATH. Every round runs each program once, in a process of its own, right after the
memory's bandwidth. A figure is the median of the rounds, beside the smallest and the largest; a share is what
decode reads per second, weights and the KV cache, of the streamed bandwidth. Prints Markdown, or with --json
one object.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from peers import between, require_program, run_program, spread, streamed_gb_s, whole_numbers


class Line(NamedTuple):
    """What is measured."""

    phase: str
    tokens: int
    depth: int
    threads: int


@dataclass(slots=True)
class Found:
    """What one program showed over the rounds."""

    rates: dict[Line, list[float]] = field(default_factory=lambda: defaultdict(list))
    peak_rss_bytes: int = 0

    def add(self, rates: dict[Line, float], peak_rss_bytes: int) -> None:
        for line, rate in rates.items():
            self.rates[line].append(rate)
        self.peak_rss_bytes = max(self.peak_rss_bytes, peak_rss_bytes)


def main() -> None:
    wanted = arguments()
    require_program("llama-bench")
    report = measure(wanted)
    print(json.dumps(report) if wanted.json else markdown(report))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a GGUF file")
    parser.add_argument("--prompt", type=whole_numbers, default=[512], help="prompt lengths, as 512,2048")
    parser.add_argument("--decode", type=int, default=128, help="tokens that are written one by one")
    parser.add_argument(
        "--depth", type=whole_numbers, default=[0], help="positions before decoding, as 0,4096"
    )
    parser.add_argument("--threads", type=whole_numbers, default=[2], help="numbers of threads, as 1,2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--llama", default="", help="more words for llama-bench, as '--repack 0'")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(wanted: argparse.Namespace) -> dict[str, Any]:
    found = {"apportion": Found(), "llama.cpp": Found()}
    runs = {"apportion": run_apportion, "llama.cpp": run_llama}
    streams: dict[int, list[float]] = defaultdict(list)
    nbytes: dict[Line, float] = {}
    for turn in range(wanted.rounds):
        for name, run in runs.items():
            print(f"round {turn + 1} of {wanted.rounds}: {name}", file=sys.stderr)
            for threads in wanted.threads:
                streams[threads].append(streamed_gb_s(threads))
            run(wanted, found[name], nbytes)
    return report_of(wanted, found, streams, nbytes)


def run_apportion(wanted: argparse.Namespace, found: Found, nbytes: dict[Line, float]) -> None:
    lengths = {
        "prompt": wanted.prompt,
        "decode": [wanted.decode],
        "depth": wanted.depth,
        "threads": wanted.threads,
    }
    words = [word for name, values in lengths.items() for word in (f"--{name}", ",".join(map(str, values)))]
    command = [sys.executable, "-m", "apportion", "bench", wanted.model, "--json", "--repetitions", 1, *words]
    shown = json.loads(run_program(command).out)
    rates = {}
    for one in shown["results"]:
        line = Line(one["phase"], one["tokens"], one["depth"], one["threads"])
        rates[line] = one["tok_s"]["median"]
        nbytes[line] = one["bytes_per_token"]
    found.add(rates, shown["peak_rss_bytes"])


def run_llama(wanted: argparse.Namespace, found: Found, _nbytes: dict[Line, float]) -> None:
    """Prompts and answers from an empty context, then answers at each depth: together, llama-bench would read
    the prompts at each depth too.
    """
    deep = [depth for depth in wanted.depth if depth]
    calls = [(wanted.prompt or [0], wanted.decode if 0 in wanted.depth else 0, [0])]
    if deep:
        calls.append(([0], wanted.decode, deep))
    for prompt, decode, depth in calls:
        lengths = {"-p": prompt, "-n": [decode], "-d": depth, "-t": wanted.threads}
        words = [word for name, values in lengths.items() for word in (name, ",".join(map(str, values)))]
        command = [
            "llama-bench",
            "-m",
            wanted.model,
            "-r",
            1,
            "-o",
            "json",
            *words,
            *shlex.split(wanted.llama),
        ]
        done = run_program(command)
        found.add({line_of(one): float(one["avg_ts"]) for one in json.loads(done.out)}, done.peak_rss_bytes)


def line_of(one: dict[str, Any]) -> Line:
    phase = "prefill" if one["n_prompt"] else "decode"
    return Line(phase, one["n_prompt"] or one["n_gen"], one["n_depth"], one["n_threads"])


def report_of(
    wanted: argparse.Namespace,
    found: dict[str, Found],
    streams: dict[int, list[float]],
    nbytes: dict[Line, float],
) -> dict[str, Any]:
    from apportion.bench.provenance import provenance  # after all runs: it is large

    bandwidths = {threads: spread(rates) for threads, rates in streams.items()}
    rows = []
    for line in found["apportion"].rates:
        rates = {name: spread(of.rates[line]) for name, of in found.items()}
        byte_rate = nbytes[line] / (bandwidths[line.threads]["median"] * 1e9)
        rows.append(
            line._asdict()
            | {
                "tok_s": rates,
                "ratio": rates["apportion"]["median"] / rates["llama.cpp"]["median"],
                "bytes_per_token": nbytes[line],
                "bandwidth_share": {name: one["median"] * byte_rate for name, one in rates.items()},
            }
        )
    return {
        "model": wanted.model,
        "threads": wanted.threads,
        "rounds": wanted.rounds,
        "llama_arguments": wanted.llama,
        "bandwidth_gb_s": bandwidths,
        "peak_rss_bytes": {name: of.peak_rss_bytes for name, of in found.items()},
        "results": rows,
        "provenance": asdict(provenance()),
    }


def markdown(report: dict[str, Any]) -> str:
    from apportion.bench.kernel_table import aligned

    head = [
        "phase",
        "tokens",
        "depth",
        "threads",
        "apportion tok/s",
        "llama.cpp tok/s",
        "ratio",
        "of bandwidth",
    ]
    rows = [[*map(str, (one[key] for key in Line._fields)), *cells(one)] for one in report["results"]]
    streams = ", ".join(
        f"{between(of)} GB/s on {threads}" for threads, of in report["bandwidth_gb_s"].items()
    )
    peaks = ", ".join(f"{name} {nbytes / 1e6:.0f} MB" for name, nbytes in report["peak_rss_bytes"].items())
    at = report["provenance"]
    extra = f" with `{report['llama_arguments']}`" if report["llama_arguments"] else ""
    origin = f"{at['processor']}, commit {at['commit']}, {at['date']}, load average {at['load_average']:.1f}"
    return f"""{aligned([head, *rows])}

Medians of {report["rounds"]} rounds, and from the smallest to the largest; llama-bench{extra}.
Memory streams {streams} threads. Peak memory: {peaks}. {origin}."""


def cells(one: dict[str, Any]) -> list[str]:
    shares = one["bandwidth_share"]
    share = f"{shares['apportion']:.0%}, {shares['llama.cpp']:.0%}" if one["phase"] == "decode" else "-"
    return [*(between(rates) for rates in one["tok_s"].values()), f"{one['ratio']:.2f}", share]


if __name__ == "__main__":
    main()
