"""What the server costs: in each step, beside the engine alone; and what a crowd takes from one client.

    python benchmarks/serve_overhead.py MODEL.gguf --clients 8 --rounds 5
    python benchmarks/serve_overhead.py MODEL.gguf --idle 256 --slow 8 --rounds 5

The first table: requests at once on one engine, stepped with nobody served, and streamed to as many clients
(`apportion bench-serve`, whose own work is among what is found), A B A B. How much longer a step is, by the
number of clients, is what a streamed token adds to it. Beside it the processor time of the server's event
loop per token: what it would add if it never ran beside the step.

The second: one client that asks again and again, alone and beside a crowd, A B A B. Idle connections have had
an answer and say no more; slow readers ask for a long answer each and read a few bytes of it a second.

Prints Markdown, or with --json one object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peers import between, spread
from serve_side_by_side import free_port, ready, stop

if TYPE_CHECKING:
    from apportion.engine.engine import Engine
    from apportion.engine.executor import RunItem
    from apportion.serve.site import Site

SHORT = 16  # tokens of a prompt: all are read in the first steps
LONG = 3000  # tokens that a slow reader asks for: far more than it will have read
READ_NBYTES, READ_EVERY_S = 64, 0.5  # of a slow reader
SETTLE_S = 30.0  # for slow readers' answers to wait for them
HEALTHY = {"prompt": 64, "output": 64, "requests": 40}


def main() -> None:
    wanted = arguments()
    report = measure(wanted)
    print(json.dumps(report) if wanted.json else markdown(report))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a GGUF file")
    parser.add_argument("--clients", type=int, default=8, help="of the first table; 0 leaves it out")
    parser.add_argument("--output", type=int, default=200, help="tokens of their answers")
    parser.add_argument("--idle", type=int, default=256, help="idle connections of the second")
    parser.add_argument("--slow", type=int, default=8, help="slow readers; 0 of both leaves it out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--our-words", default="", help="more words for apportion serve")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    if not wanted.model.is_file():
        parser.error(f"there is no file {wanted.model}")
    return wanted


def measure(wanted: argparse.Namespace) -> dict[str, Any]:
    report: dict[str, Any] = {"model": wanted.model.name, "rounds": wanted.rounds}
    if wanted.clients:
        report["steps"] = {"clients": wanted.clients, "rounds": steps(wanted)}
    if wanted.idle or wanted.slow:
        report["crowd"] = {"idle": wanted.idle, "slow": wanted.slow, "rounds": crowded(wanted)}
    from apportion.bench.provenance import provenance  # after all runs: it is large

    return {**report, "provenance": asdict(provenance())}


# --- a step ---


class Watched:
    """An engine's steps while somebody looks.

    Attributes:
        periods: seconds from the begin of one step to the next's, where both gave every request one token.
    """

    def __init__(self, engine: Engine, rows: int) -> None:
        self._engine, self._rows = engine, rows
        self._on_step = engine.on_step
        self._last: float | None = None
        self.periods: list[float] = []

    def __enter__(self) -> Watched:
        self._engine.on_step = self._see
        return self

    def __exit__(self, *raised: object) -> None:
        self._engine.on_step = self._on_step

    def _see(self, items: Sequence[RunItem], begin: float, seconds: float) -> None:
        if self._on_step is not None:
            self._on_step(items, begin, seconds)
        is_full = len(items) == self._rows and all(len(item.ids) == 1 for item in items)
        if is_full and self._last is not None:
            self.periods.append(begin - self._last)
        self._last = begin if is_full else None


def steps(wanted: argparse.Namespace) -> list[dict[str, float]]:
    """Of each round: seconds of a step, alone and served, and of the event loop per token.

    Both on one engine in one process, by the same thread: two processes differ by more than what is sought.
    """
    from apportion.bench.requests import Arrival, serve
    from apportion.bench.speed import text_ids

    rounds: list[dict[str, float]] = []
    with in_process(wanted) as (server, site, loop):
        (llm,) = site.models.loaded().values()

        def alone() -> None:
            ids = [text_ids(llm.model, SHORT, seed) for seed in range(wanted.clients)]
            serve(llm, [Arrival(0.0, one, wanted.output) for one in ids])

        load = ["--clients", wanted.clients, "--requests", wanted.clients, "--warmup", 0]
        load += ["--prompt", SHORT, "--output", wanted.output]
        bench(server.url, *load, "--seed", wanted.rounds)  # slower than others, and begins the meters
        for turn in range(wanted.rounds):
            said(f"steps, round {turn + 1} of {wanted.rounds}")
            with Watched(llm.engine, wanted.clients) as without:
                asyncio.run_coroutine_threadsafe(site.pump.do(alone), loop).result()
            before = server.loop_s()
            with Watched(llm.engine, wanted.clients) as served:
                tokens = bench(server.url, *load, "--seed", turn)["output_tokens"]
            if not (without.periods and served.periods):
                sys.exit("error: no step answered all clients: --output is too small for them to meet")
            rounds.append(
                {
                    "alone_s": statistics.median(without.periods),
                    "served_s": statistics.median(served.periods),
                    "loop_s": (server.loop_s() - before) / tokens,
                }
            )
    return rounds


@contextmanager
def in_process(wanted: argparse.Namespace) -> Iterator[tuple[Server, Site, asyncio.AbstractEventLoop]]:
    """A server of this process, in a thread of its own."""
    from apportion.engine.assembly import Serving
    from apportion.serve import ModelSpec, ServeConfig
    from apportion.serve.app import create_app
    from apportion.serve.listening import listen, url_of
    from apportion.serve.run import Process

    config = ServeConfig(
        (ModelSpec("model", str(wanted.model)),),
        port=0,
        ctx=wanted.output + 4 * SHORT,
        serving=Serving(concurrency=wanted.clients),
        offline=True,
    )
    app, sockets = create_app(config), listen(config.host, config.port)
    process, threads = Process(app), []

    async def serve() -> None:
        threads.append((threading.get_native_id(), asyncio.get_running_loop()))
        await process.serve(sockets)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    try:
        url = url_of(sockets)
        if not ready(f"{url}/ready"):
            sys.exit("error: the server does not become ready")
        [(thread_id, loop)] = threads
        yield Server(url, os.getpid(), thread_id), app.state.site, loop
    finally:
        process.should_exit = True
        thread.join()


# --- a crowd ---


def crowded(wanted: argparse.Namespace) -> list[dict[str, float]]:
    """Of each round: percentiles of what the healthy client saw, alone and beside the crowd."""
    words = ["--ctx", LONG + 4 * SHORT, "--concurrency", wanted.slow + 1]
    room = 2 * (wanted.idle + wanted.slow) + 16
    words += ["--limit", f"connections={room}", "--limit", f"connections_per_ip={room}"]
    words += ["--limit", "idle_s=3600", "--limit", "write_s=3600"]
    rounds = []
    with serving(wanted, *words) as server:
        for turn in range(wanted.rounds):
            said(f"crowd, round {turn + 1} of {wanted.rounds}")
            alone = healthy(server.url, 2 * turn)
            with crowd(server.url, wanted.idle, wanted.slow):
                beside = healthy(server.url, 2 * turn + 1)
            rounds.append(
                {
                    f"{name}_{way}_s": line[name]["p95"]
                    for way, line in (("alone", alone), ("beside", beside))
                    for name in ("ttft_s", "gap_s", "e2e_s")
                }
            )
    return rounds


def healthy(url: str, seed: int) -> dict[str, Any]:
    words = [word for name, value in HEALTHY.items() for word in (f"--{name}", value)]
    return bench(url, "--clients", 1, *words, "--seed", seed)


@contextmanager
def crowd(url: str, idle: int, slow: int) -> Iterator[None]:
    """Connections that say no more, and readers that hardly read; gone at the end."""
    host, _, port = url.removeprefix("http://").partition(":")
    over = threading.Event()
    with ExitStack() as stack:
        for _ in range(idle):
            one = stack.enter_context(socket.create_connection((host, int(port))))
            one.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if not one.recv(4096).startswith(b"HTTP/1.1 200"):
                sys.exit("error: an idle connection was not answered")
        readers = [stack.enter_context(slow_answer(host, int(port), place)) for place in range(slow)]
        thread = threading.Thread(target=sip, args=(readers, over))
        thread.start()
        stack.callback(thread.join)
        stack.callback(over.set)
        settle(url)
        yield
        if not thread.is_alive():
            sys.exit("error: a slow reader was cut off, or its answer has ended")


def slow_answer(host: str, port: int, place: int) -> socket.socket:
    """A stream that has been asked for, through a small buffer."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.connect((host, port))
    body = json.dumps(
        {"prompt": f"Reader {place}", "max_tokens": LONG, "stream": True, "ignore_eos": True}
    ).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    one.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return one


def sip(readers: list[socket.socket], over: threading.Event) -> None:
    while not over.wait(READ_EVERY_S) and all(one.recv(READ_NBYTES) for one in readers):
        pass


def settle(url: str) -> None:
    """Wait until the slow readers' answers do: until the server computes hardly anything."""
    give_up = time.monotonic() + SETTLE_S
    before = computed(url)
    while time.monotonic() < give_up:
        time.sleep(1)
        now = computed(url)
        if now - before < 100:
            return
        before = now
    sys.exit("error: the answers of slow readers do not wait for them")


def computed(url: str) -> float:
    """Tokens that the server has computed for answers."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("apportion_output_tokens_total"))


# --- programs ---


class Server:
    """One that is ready."""

    def __init__(self, url: str, pid: int, thread_id: int | None = None) -> None:
        self.url = url
        self._stat = Path(f"/proc/{pid}/task/{thread_id or pid}/stat")

    def loop_s(self) -> float:
        """Processor seconds of its event loop; 0 where the system does not say."""
        try:
            stat = self._stat.read_text()
        except FileNotFoundError:
            return 0.0
        fields = stat[stat.rindex(")") + 2 :].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(wanted: argparse.Namespace, *words: object) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", "apportion", "serve", wanted.model, "--port", port, *words]
    command += ["--log-level", "error", *shlex.split(wanted.our_words)]
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, text=True)
    try:
        url = f"http://127.0.0.1:{port}"
        if not ready(f"{url}/ready", process):
            sys.exit("error: apportion does not become ready")
        yield Server(url, process.pid)
    finally:
        stop(process)


def bench(url: str, *words: object) -> dict[str, Any]:
    """The one line of `apportion bench-serve`."""
    line = told(["bench-serve", url, "--endpoint", "completions", *words])["results"][0]
    if line["failed"]:
        sys.exit(f"error: requests failed: {line['failed']}")
    assert isinstance(line, dict)
    return line


def told(words: list[object]) -> dict[str, Any]:
    """The object that a verb prints."""
    command = [sys.executable, "-m", "apportion", *(str(word) for word in words), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {words[0]} failed\n{done.stderr}{done.stdout}")
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def said(text: str) -> None:
    print(text, file=sys.stderr)


# --- what is said of it ---


def markdown(report: dict[str, Any]) -> str:
    at = report["provenance"]
    parts = [*step_lines(report), *crowd_lines(report)]
    parts.append(
        f"{report['model']}, medians of {report['rounds']} rounds (smallest to largest). {at['processor']}, "
        f"commit {at['commit']}, {at['date']}, load average {at['load_average']:.1f}."
    )
    return "\n\n".join(parts)


def step_lines(report: dict[str, Any]) -> Iterator[str]:
    from apportion.bench.kernel_table import aligned

    if "steps" not in report:
        return
    clients, rounds = report["steps"]["clients"], report["steps"]["rounds"]
    added = [1e6 * (one["served_s"] - one["alone_s"]) / clients for one in rounds]
    rows = [
        [f"at {clients} clients", "median of rounds"],
        ["step without a server, ms", shown([1e3 * one["alone_s"] for one in rounds])],
        ["step with one, ms", shown([1e3 * one["served_s"] for one in rounds])],
        ["added to the step by a streamed token, us", shown(added)],
        ["event loop's processor time for it, us", shown([1e6 * one["loop_s"] for one in rounds])],
    ]
    yield aligned(rows)


def crowd_lines(report: dict[str, Any]) -> Iterator[str]:
    from apportion.bench.kernel_table import aligned

    if "crowd" not in report:
        return
    found = report["crowd"]
    rows = [["p95 of one client, ms", "alone", f"beside {found['idle']} idle, {found['slow']} slow", "more"]]
    for name, title in (("ttft_s", "first token"), ("gap_s", "between tokens"), ("e2e_s", "whole answer")):
        alone, beside = ([one[f"{name}_{way}_s"] for one in found["rounds"]] for way in ("alone", "beside"))
        more = statistics.median(beside) / statistics.median(alone) - 1
        rows.append(
            [title, shown([1e3 * one for one in alone]), shown([1e3 * one for one in beside]), f"{more:+.0%}"]
        )
    yield aligned(rows)


def shown(values: list[float]) -> str:
    return between(spread(values))


if __name__ == "__main__":
    main()
