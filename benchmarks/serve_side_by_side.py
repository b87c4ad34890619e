"""apportion's server beside llama.cpp's: the same file, the same limit of memory, the same load, A B A B.

    python benchmarks/serve_side_by_side.py MODEL.gguf --llama BUILD/bin/llama-server --clients 1,4,8,16
    python benchmarks/serve_side_by_side.py MODEL.gguf --llama BUILD/bin --ram 1GiB --rounds 2 --minutes 12
    python benchmarks/serve_side_by_side.py MODEL.gguf --llama BIN --scheduler fcfs,chunked --trace FILE

Every round starts each server once, in a process of its own; with --ram, in a memory control group of that
limit (apportion's has 5% more, and `--ram` at the limit), where one can be made. Both have room for as many
requests at once as there are clients at most. `apportion bench-serve` loads them from a process beside: each
client waits for its answer, prompts share nothing, answers are greedy and of one length; every round has
prompts of its own, the same for all. A figure is the median of the rounds.

With --trace requests come as in a trace of a service, whatever became of those before; --clients is then for
how many at once the servers have room. With --scheduler apportion runs once with each.

After --minutes no further line is begun: what is there is reported. Prints Markdown, and writes all figures.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from limited import memory_group, number_in, peak_of
from peers import whole_numbers
from under_limits import ROOM, size

OURS, THEIRS = "apportion", "llama.cpp"
SPARE = 64  # positions beside prompt and answer: the template, and lengths that are not met exactly
FEWEST_REQUESTS, PER_CLIENT = 12, 3
TRACED = 100  # requests of a trace
START_S = 120.0


class Line(NamedTuple):
    """What is measured: a server, and for how many clients."""

    program: str
    clients: int


@dataclass(slots=True)
class Found:
    """What the rounds showed: figures of `apportion bench-serve --json`, and the server's memory."""

    lines: dict[Line, list[dict[str, Any]]] = field(default_factory=dict)
    peak_rss_bytes: dict[str, int] = field(default_factory=dict)
    group_peak_bytes: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def main() -> None:
    wanted = arguments()
    report = measure(wanted)
    out = wanted.out or Path(__file__).parent / "results" / f"serve-{wanted.model.stem}.json"
    out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report) if wanted.json else markdown(report))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a GGUF file")
    parser.add_argument("--llama", default="llama-server", help="llama-server, or the folder that holds it")
    parser.add_argument("--llama-words", default="", help="more words for it, as '--no-repack'")
    parser.add_argument("--our-words", default="", help="more words for apportion serve")
    parser.add_argument("--ram", type=size, help="limit of memory, as 1GiB [default: none]")
    parser.add_argument("--scheduler", type=names, default=[""], help="apportion's; several: a server each")
    parser.add_argument("--clients", type=whole_numbers, default=[1, 4, 8, 16])
    parser.add_argument("--trace", type=Path, help="requests come as in this file")
    parser.add_argument("--interval", type=float, default=1.0, help="with --trace: times as far apart")
    parser.add_argument("--length", type=float, default=1.0, help="with --trace: times as many tokens")
    parser.add_argument("--every", type=int, default=1, help="with --trace: only each so-many-th request")
    parser.add_argument("--prompt", type=int, default=256, help="tokens of each prompt")
    parser.add_argument("--output", type=int, default=64, help="tokens of each answer")
    parser.add_argument(
        "--requests", type=int, help="of each line [default: 3 a client, 12 at least; 100 of a trace]"
    )
    parser.add_argument("--slo-ttft", type=float, default=2.0, help="seconds")
    parser.add_argument("--slo-tpot", type=float, default=0.1, help="seconds")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=12.0, help="after so many no line is begun")
    parser.add_argument("--out", type=Path, help="the file for all figures [default: benchmarks/results/...]")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    if not wanted.model.is_file():
        parser.error(f"there is no file {wanted.model}")
    folder = wanted.llama if Path(wanted.llama).is_dir() else None
    found = shutil.which("llama-server" if folder else wanted.llama, path=folder)
    if found is None:
        parser.error(f"there is no llama-server at {wanted.llama}")
    wanted.llama = found
    if wanted.trace is not None:
        wanted.clients = [max(wanted.clients)]
        wanted.requests = wanted.requests or TRACED
    return wanted


def names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def measure(wanted: argparse.Namespace) -> dict[str, Any]:
    found = Found()
    until = time.monotonic() + 60 * wanted.minutes
    for turn in range(wanted.rounds):
        for program in programs(wanted):
            if time.monotonic() > until:
                found.note(f"the time was over in round {turn + 1}")
                break
            print(f"round {turn + 1} of {wanted.rounds}: {program}", file=sys.stderr)
            with serving(program, wanted, found) as url:
                for clients in wanted.clients:
                    left = until - time.monotonic()
                    if left > 0:
                        line = loaded(url, clients, turn, wanted, left)
                        found.lines.setdefault(Line(program, clients), []).append(line)
    return report_of(wanted, found)


def programs(wanted: argparse.Namespace) -> list[str]:
    """The servers by name: apportion with each scheduler, then llama.cpp."""
    return [*(f"{OURS} {name}".strip() for name in wanted.scheduler), THEIRS]


# --- servers ---


@contextmanager
def serving(program: str, wanted: argparse.Namespace, found: Found) -> Iterator[str]:
    """A server that is ready, at its address; stopped at the end, its memory noted."""
    port, is_ours = free_port(), program != THEIRS
    words = our_words(program, wanted, port) if is_ours else their_words(wanted, port)
    limit = None if wanted.ram is None else int(wanted.ram * (ROOM if is_ours else 1))
    with group_of(limit, found) as group, tempfile.TemporaryFile("w+") as said:
        if group is not None:  # the shell enters the group and becomes the server
            words = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"), *words]
        server = subprocess.Popen(words, stdout=said, stderr=said)
        try:
            url = f"http://127.0.0.1:{port}"
            if not ready(f"{url}/{'ready' if is_ours else 'health'}", server):
                said.seek(0)
                sys.exit(f"error: {program} does not become ready\n{said.read()[-2000:]}")
            yield url
            peak = number_in(Path(f"/proc/{server.pid}/status"), "VmHWM") * 1024
            found.peak_rss_bytes[program] = max(peak, found.peak_rss_bytes.get(program, 0))
            found.group_peak_bytes[program] = max(peak_of(group) or 0, found.group_peak_bytes.get(program, 0))
        finally:
            stop(server)


@contextmanager
def group_of(limit: int | None, found: Found) -> Iterator[Path | None]:
    if limit is None:
        yield None
        return
    with memory_group(limit) as group:
        if group is None:
            found.note("no control group can be made: only --ram limits apportion, nothing llama.cpp")
        yield group


def our_words(program: str, wanted: argparse.Namespace, port: int) -> list[str]:
    scheduler = program.removeprefix(OURS).split()
    words = [sys.executable, "-m", "apportion", "serve", str(wanted.model), "--port", str(port)]
    words += ["--threads", str(wanted.threads), "--ctx", str(context(wanted)), "--log-level", "warning"]
    words += ["--concurrency", str(max(wanted.clients)), *(["--scheduler", *scheduler] if scheduler else [])]
    return words + ([] if wanted.ram is None else ["--ram", str(wanted.ram)]) + shlex.split(wanted.our_words)


def their_words(wanted: argparse.Namespace, port: int) -> list[str]:
    """A slot for each client. What it keeps of earlier prompts beside the slots would only take memory."""
    slots = max(wanted.clients)
    words = [wanted.llama, "-m", str(wanted.model), "--port", str(port), "-t", str(wanted.threads)]
    words += ["-c", str(context(wanted) * slots), "-np", str(slots), "--cache-ram", "0"]
    return words + shlex.split(wanted.llama_words)


def context(wanted: argparse.Namespace) -> int:
    """Positions for the longest request. Long prompts are met to a few in a hundred."""
    longest = wanted.prompt + wanted.output
    if wanted.trace is not None:
        from apportion.simulate.serving.traces import read_trace, scaled

        some = islice(scaled(read_trace(wanted.trace), **factors(wanted)), wanted.requests)
        longest = max(one.num_prompt + one.num_output for one in some) * 17 // 16
    return int(longest + SPARE)


def factors(wanted: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(wanted, name) for name in ("interval", "length", "every")}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def ready(url: str, server: subprocess.Popen[str] | None = None) -> bool:
    """Wait until it answers 200; whether it did."""
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up and (server is None or server.poll() is None):
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        time.sleep(0.1)
    return False


def stop(server: subprocess.Popen[str]) -> None:
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


# --- load ---


def loaded(url: str, clients: int, turn: int, wanted: argparse.Namespace, left: float) -> dict[str, Any]:
    """What `apportion bench-serve` found."""
    requests = wanted.requests or max(FEWEST_REQUESTS, PER_CLIENT * clients)
    words = [sys.executable, "-m", "apportion", "bench-serve", url, "--json", "--requests", requests]
    if wanted.trace is None:
        words += ["--clients", clients, "--prompt", wanted.prompt, "--output", wanted.output]
    else:
        words += ["--trace", wanted.trace]
        words += [word for name, factor in factors(wanted).items() for word in (f"--{name}", factor)]
    words += ["--slo-ttft", wanted.slo_ttft, "--slo-tpot", wanted.slo_tpot]
    words += ["--seed", 1000 * turn + clients, "--time-limit", max(left, 1.0)]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: the load failed\n{done.stderr}{done.stdout}")
    line = json.loads(done.stdout)["results"][0]
    print(f"  {line['load']}: {line['output_tok_s']:.1f} tok/s", file=sys.stderr)
    assert isinstance(line, dict)
    return line


# --- what is said of it ---


def report_of(wanted: argparse.Namespace, found: Found) -> dict[str, Any]:
    from apportion.bench.provenance import provenance  # after all runs: it is large

    rows = [row_of(line, rounds) for line, rounds in sorted(found.lines.items(), key=by_clients)]
    return {
        "model": wanted.model.name,
        "ram": wanted.ram,
        "prompt": wanted.prompt,
        "output": wanted.output,
        "trace": None if wanted.trace is None else {"name": wanted.trace.name, **factors(wanted)},
        "requests": wanted.requests,
        "slo": {"ttft_s": wanted.slo_ttft, "tpot_s": wanted.slo_tpot},
        "threads": wanted.threads,
        "rounds": wanted.rounds,
        "llama_words": wanted.llama_words,
        "our_words": wanted.our_words,
        "peak_rss_bytes": found.peak_rss_bytes,
        "group_peak_bytes": found.group_peak_bytes,
        "notes": found.notes,
        "results": rows,
        "provenance": asdict(provenance()),
    }


def by_clients(entry: tuple[Line, object]) -> tuple[int, str]:
    return entry[0].clients, entry[0].program


def row_of(line: Line, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds, and the rounds themselves."""

    def middle(name: str, percentile: str | None = None) -> float | None:
        values = [one[name] if percentile is None else (one[name] or {}).get(percentile) for one in rounds]
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None

    return {
        "clients": line.clients,
        "program": line.program,
        **{f"{name}_{p}": middle(name, p) for name in ("ttft_s", "tpot_s", "gap_s") for p in ("p50", "p99")},
        "output_tok_s": middle("output_tok_s"),
        "goodput_per_s": middle("goodput_per_s"),
        "well_served": middle("well_served"),
        "failed": [one["failed"] for one in rounds if one["failed"]],
        "rounds": rounds,
    }


def markdown(report: dict[str, Any]) -> str:
    from apportion.bench.kernel_table import aligned

    head = ["clients", "server", "TTFT ms p50", "p99", "TPOT ms p50", "p99", "gap ms p99", "tok/s"]
    head += ["goodput/s", "well"]
    rows = [head, *([str(one["clients"]), one["program"], *cells(one)] for one in report["results"])]
    at, slo = report["provenance"], report["slo"]
    limit = "no limit of memory" if report["ram"] is None else f"a limit of {report['ram'] / 1e9:.2f} GB"
    peaks = ", ".join(f"{name} {nbytes / 1e6:.0f} MB" for name, nbytes in report["peak_rss_bytes"].items())
    words = f" llama-server with `{report['llama_words']}`." if report["llama_words"] else ""
    notes = "".join(f" {note[:1].upper()}{note[1:]}." for note in [*report["notes"], *failures(report)])
    return f"""{aligned(rows)}

{report["model"]}, {limit}, {report["threads"]} threads; {load_of(report)};
medians of {report["rounds"]} rounds. Goodput: TTFT up to {slo["ttft_s"]:g} s and TPOT up to
{slo["tpot_s"] * 1e3:g} ms. Peak memory: {peaks}.{words}{notes}
{at["processor"]}, commit {at["commit"]}, {at["date"]}, load average {at["load_average"]:.1f}."""


def load_of(report: dict[str, Any]) -> str:
    trace = report["trace"]
    if trace is None:
        return f"prompts of {report['prompt']} tokens that share nothing,\nanswers of {report['output']}"
    some = f"{report['requests']} requests of {trace['name']}, one in {trace['every']}"
    far, long = f"{trace['interval']:g} times as far apart", f"lengths times {trace['length']:g}"
    return f"{some},\n{far}, {long}, room for as many at once as there are clients"


def cells(one: dict[str, Any]) -> list[str]:
    times = ("ttft_s_p50", "ttft_s_p99", "tpot_s_p50", "tpot_s_p99", "gap_s_p99")
    shown = ["-" if one[name] is None else f"{1e3 * one[name]:.1f}" for name in times]
    return [*shown, f"{one['output_tok_s']:.1f}", f"{one['goodput_per_s']:.2f}", f"{one['well_served']:.0%}"]


def failures(report: dict[str, Any]) -> Iterator[str]:
    """Requests without an answer, by line."""
    for one in report["results"]:
        kinds = [f"{count} {kind}" for failed in one["failed"] for kind, count in failed.items()]
        if kinds:
            yield f"{one['program']} at {one['clients']} clients gave no answer: {', '.join(kinds)}"


if __name__ == "__main__":
    main()
