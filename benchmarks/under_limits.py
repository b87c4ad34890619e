"""apportion beside llama.cpp under the same limits of memory: the same file, cold, A B A B.

    python benchmarks/under_limits.py MODEL.gguf --fractions 75,50,25 --rounds 2 --llama BUILD/bin
    python benchmarks/under_limits.py MODEL.gguf --limits 8GiB,12GiB --routes uniform.routes,real.routes

Each program runs in a memory control group of its own: llama.cpp in one of the limit, apportion in one of 5%
more, with `--ram` at the limit; where no group can be made, without one, and the report says so. llama.cpp
maps the file and does not repack weights (that would double them). It runs once from the file as it lies, and
once from a copy on a loop device with a read-ahead of 128 KiB, which suits it best. Before each run the
file's pages are dropped from the page cache; before each of apportion's the machine is measured
(`apportion probe`), and forecast and bound are for those rates. The disk of a shared machine changes from one
minute to the next: both stand in the table a second time, for what the disk gave in the run itself while
anything was read. For the model's own routes the forecast reckons with the hit rates of caches on routes that
were recorded of it beforehand, reading other tokens. A run that is killed or out of time stays in the table
as what it reached.

Prints Markdown, and writes all figures and a plot of tokens a second over budget.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from limited import Run, forget, memory_group, run_limited
from loop_mount import NoLoop, on_loop_device
from peers import spread
from under_limits_plot import plot
from under_limits_table import markdown

ROOM = 1.05  # of apportion's group, by its budget
RECORDED = 1000  # tokens, of the model's own routes
READ_AHEAD_SECTORS = 256  # 128 KiB
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "KB": 10**3, "MB": 10**6, "GB": 10**9, "B": 1}
OURS, THEIRS, TUNED = "apportion", "llama.cpp", "llama.cpp, read-ahead 128 KiB"


@dataclass(frozen=True, slots=True)
class Case:
    """What is run under one limit.

    Attributes:
        routes: a routes file that is replayed; None: the model's own.
    """

    program: str
    file: Path
    routes: Path | None = None


@dataclass(slots=True)
class Phase:
    """Prefill or decode of one case, over the rounds; a figure for each run that reached one."""

    tok_s: list[float] = field(default_factory=list)
    at_most: list[float] = field(default_factory=list)
    disk_bytes_per_token: list[float] = field(default_factory=list)
    hit_rate: list[float] = field(default_factory=list)
    forecast_tok_s: list[float] = field(default_factory=list)
    forecast_error: list[float] = field(default_factory=list)
    given_disk_error: list[float] = field(default_factory=list)
    reading_GBps: list[float] = field(default_factory=list)  # noqa: N815
    bound_tok_s: list[float] = field(default_factory=list)
    given_disk_bound_tok_s: list[float] = field(default_factory=list)
    stall_share: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Row:
    """One case under one limit."""

    limit: int
    program: str
    routes: str | None
    phases: dict[str, Phase] = field(default_factory=lambda: {"prefill": Phase(), "decode": Phase()})
    outcomes: list[str] = field(default_factory=list)
    read_bytes: list[int] = field(default_factory=list)
    peak_rss_bytes: int = 0
    group_peak_bytes: int | None = None
    plan_nbytes: int | None = None
    plan_hit_rate: float | None = None
    disk_GBps: list[float] = field(default_factory=list)  # noqa: N815

    def note(self, run: Run) -> None:
        """What the system says of a run."""
        self.outcomes.append(run.outcome)
        self.read_bytes.append(run.read_bytes)
        self.peak_rss_bytes = max(self.peak_rss_bytes, run.peak_rss_bytes)
        if run.group_peak_bytes is not None:
            self.group_peak_bytes = max(self.group_peak_bytes or 0, run.group_peak_bytes)


def main() -> None:
    wanted = arguments()
    report = measure(wanted)
    name = Path(wanted.model).stem
    here = Path(__file__).parent
    out = wanted.out or here / "results" / f"under-limits-{name}.json"
    picture = wanted.plot or here.parent / "docs" / "images" / f"under-limits-{name}.svg"
    out.write_text(json.dumps(report, indent=1) + "\n")
    picture.write_text(plot(report))
    print(json.dumps(report) if wanted.json else markdown(report))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a GGUF file")
    parser.add_argument("--fractions", type=percents, help="limits as percent of the file, as 75,50,25")
    parser.add_argument("--limits", type=sizes, help="limits, as 8GiB,12GiB")
    parser.add_argument("--prompt", type=int, default=256, help="tokens that are read at once")
    parser.add_argument("--decode", type=int, default=48, help="tokens that are written one by one")
    parser.add_argument("--warmup", type=int, default=32, help="tokens that apportion writes uncounted")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--routes", type=files, default=[], help="routes files that apportion replays, too")
    parser.add_argument("--packed", type=Path, help="the same model as `apportion pack` wrote it")
    parser.add_argument("--llama", type=Path, help="a folder with llama-bench [default: the PATH]")
    parser.add_argument("--no-llama", action="store_true", help="leave llama.cpp out")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds that a run may take")
    parser.add_argument("--out", type=Path, help="the file for all figures [default: benchmarks/results/...]")
    parser.add_argument("--plot", type=Path, help="the file for the plot [default: docs/images/...]")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    if not wanted.model.is_file():
        parser.error(f"there is no file {wanted.model}")
    return wanted


def percents(text: str) -> list[float]:
    """`75,50` as shares."""
    shares = [float(word.strip().removesuffix("%")) / 100 for word in text.split(",")]
    if not all(share > 0 for share in shares):
        raise argparse.ArgumentTypeError("a share is above 0")
    return shares


def sizes(text: str) -> list[int]:
    """`8GiB,12GiB` in bytes."""
    return [size(word.strip()) for word in text.split(",")]


def size(word: str) -> int:
    for unit, factor in UNITS.items():
        if word.endswith(unit):
            return int(float(word.removesuffix(unit)) * factor)
    raise argparse.ArgumentTypeError(f"{word!r} is no size such as 8GiB")


def files(text: str) -> list[Path]:
    paths = [Path(word) for word in text.split(",")]
    for path in paths:
        if not path.is_file():
            raise argparse.ArgumentTypeError(f"there is no file {path}")
    return paths


def limits_of(wanted: argparse.Namespace) -> list[int]:
    nbytes = wanted.model.stat().st_size
    shares = wanted.fractions or ([] if wanted.limits else [0.75, 0.5, 0.25])
    return [*(int(share * nbytes) for share in shares), *(wanted.limits or [])]


def measure(wanted: argparse.Namespace) -> dict[str, Any]:
    notes: list[str] = []
    with ExitStack() as stack:
        cache = stack.enter_context(tempfile.TemporaryDirectory(prefix="apportion-bench-"))
        os.environ["XDG_CACHE_HOME"] = cache  # the profile of this run is nobody else's
        cases = list(cases_of(wanted, stack, notes))
        curve = own_curve(wanted, Path(cache), notes)
        all_resident, rows = [], []
        for limit in limits_of(wanted):
            resident = resident_rates(wanted, notes)  # again for each limit: shared machines drift
            all_resident.append(resident)
            row_of = {case: Row(limit, case.program, case.routes and case.routes.stem) for case in cases}
            for turn in range(wanted.rounds):
                for case, row in row_of.items():
                    said = f"{limit / 1e9:.2f} GB, round {turn + 1} of {wanted.rounds}: {case.program}"
                    print(said + (f", {case.routes.stem}" if case.routes else ""), file=sys.stderr)
                    run_case(wanted, case, row, resident, curve, notes)
            rows += row_of.values()
    return report_of(wanted, rows, all_resident, notes)


def cases_of(wanted: argparse.Namespace, stack: ExitStack, notes: list[str]) -> Iterator[Case]:
    """What runs under each limit, in turn."""
    for routes in (None, *wanted.routes):
        yield Case(OURS, wanted.model, routes)
        if wanted.packed:
            yield Case(f"{OURS}, packed", wanted.packed, routes)
    if wanted.no_llama:
        return
    if llama_bench(wanted) is None:
        notes.append("llama.cpp was left out: there is no llama-bench on the PATH or in --llama")
        return
    yield Case(THEIRS, wanted.model)
    try:
        yield Case(TUNED, stack.enter_context(on_loop_device(wanted.model, READ_AHEAD_SECTORS)))
    except NoLoop as error:
        notes.append(f"llama.cpp with a read-ahead that suits it was left out: {error}")


def llama_bench(wanted: argparse.Namespace) -> str | None:
    return shutil.which("llama-bench", path=None if wanted.llama is None else str(wanted.llama))


def run_case(
    wanted: argparse.Namespace,
    case: Case,
    row: Row,
    resident: Mapping[str, float],
    curve: Path | None,
    notes: list[str],
) -> None:
    if case.program.startswith(OURS):
        disk = disk_rate(wanted, case.file)
        forget(case.file)
        run = within(int(row.limit * ROOM), our_words(wanted, case, row.limit, curve), wanted, notes)
        row.note(run)
        row.disk_GBps.append(disk)
        if run.outcome == "done":
            note_ours(row, json.loads(run.out), resident, disk)
        elif run.outcome == "failed":
            notes.append(f"{case.program} at {row.limit / 1e9:.2f} GB: {last_line(run.err)}")
        return
    forget(case.file)
    run = within(row.limit, their_words(wanted, case.file), wanted, notes)
    row.note(run)
    note_theirs(wanted, row, run)
    if run.outcome == "failed":
        notes.append(f"{case.program} at {row.limit / 1e9:.2f} GB: {last_line(run.err)}")


def within(limit: int, words: list[object], wanted: argparse.Namespace, notes: list[str]) -> Run:
    """A run in a group of its own."""
    with memory_group(limit) as group:
        if group is None and (said := "no control group can be made: nothing but --ram limits") not in notes:
            notes.append(said)
        return run_limited(words, group, wanted.timeout)


def own_curve(wanted: argparse.Namespace, folder: Path, notes: list[str]) -> Path | None:
    """Hit rates of caches on the model's own routes, of answers as long; None where none can be recorded."""
    routes, curve = folder / "own.routes", folder / "own.json"
    ours: list[object] = [sys.executable, "-m", "apportion", "trace"]
    least = min(limits_of(wanted))
    recording = [*ours, "record", wanted.packed or wanted.model, routes, "--random-tokens", RECORDED]
    run = run_limited([*recording, "--ctx", wanted.decode, "--ram", least], None, wanted.timeout)
    if run.outcome == "done":
        run = run_limited([*ours, "info", routes, "--save-curve", curve], None, wanted.timeout)
    if run.outcome == "done":
        return curve
    notes.append(f"forecasts of own routes reckon with uniform ones: {last_line(run.err)}")
    return None


def our_words(
    wanted: argparse.Namespace, case: Case, ram: int | None, curve: Path | None = None
) -> list[object]:
    words: list[object] = [sys.executable, "-m", "apportion", "bench", case.file, "--json"]
    words += ["--prompt", wanted.prompt, "--decode", wanted.decode, "--threads", wanted.threads]
    words += ["--repetitions", 1]
    if ram is not None:
        words += ["--ram", ram, "--warmup", wanted.warmup]
    if case.routes:
        return [*words, "--routes", case.routes]
    return [*words, "--curve", curve] if curve else words


def their_words(wanted: argparse.Namespace, file: Path) -> list[object]:
    """One prompt, then one answer, without uncounted runs: the prompt has touched all experts by then."""
    program = llama_bench(wanted)
    assert program is not None
    known = subprocess.run([program, "--help"], capture_output=True, text=True, check=False).stdout
    words: list[object] = [program, "-m", file, "-p", wanted.prompt, "-n", wanted.decode]
    words += ["-t", wanted.threads, "-r", 1, "-o", "jsonl"]
    return words + llama_flags(known)


def llama_flags(known: str) -> list[str]:
    """What maps the file and repacks nothing, as far as this version has words for it."""
    flags: list[str] = []
    for names, words in (
        (("--repack",), ["--repack", "0"]),
        (("--no-repack",), ["--no-repack"]),
        (("--load-mode",), ["--load-mode", "mmap"]),
        (("--mmap",), ["--mmap", "1"]),
        (("--no-warmup",), ["--no-warmup"]),
    ):
        text = known.replace("--no-repack", "") if names == ("--repack",) else known
        is_known = any(f"{name} " in text or f"{name}\n" in text for name in names)
        if is_known and words[0] not in flags and not (words[0] == "--mmap" and "--load-mode" in flags):
            flags += words
    return flags


def disk_rate(wanted: argparse.Namespace, file: Path) -> float:
    """GB/s beside computing, measured now; the profile stays for the run that follows."""
    words = [sys.executable, "-m", "apportion", "probe", file, "--threads", wanted.threads, "--json"]
    run = run_limited(words, None, 120.0)
    if run.outcome != "done":
        sys.exit(f"error: the disk cannot be measured\n{run.err}")
    rates = json.loads(run.out)["disk"]["rates"]
    return max(float(rate["GBps"]["median"]) for rate in rates if rate["beside"])


def resident_rates(wanted: argparse.Namespace, notes: list[str]) -> dict[str, float]:
    """Tokens a second with all weights in memory, by phase: what computing alone allows."""
    run = run_limited(
        our_words(wanted, Case(OURS, wanted.packed or wanted.model), None), None, wanted.timeout
    )
    if run.outcome != "done":
        said = "the model does not run with all weights in memory here: the bound is the disk's alone"
        notes.extend([] if said in notes else [said])
        return {}
    return {one["phase"]: float(one["tok_s"]["median"]) for one in json.loads(run.out)["results"]}


def note_ours(row: Row, found: dict[str, Any], resident: Mapping[str, float], disk: float) -> None:
    """What `apportion bench --json` says."""
    plan = found["plan"]
    row.plan_nbytes = sum(plan["bytes"].values()) - plan["bytes"]["reserve"]
    row.plan_hit_rate = plan["hit_rate"]
    for one in found["results"]:
        phase = row.phases[one["phase"]]
        phase.tok_s.append(one["tok_s"]["median"])
        phase.forecast_tok_s.append(one["forecast_tok_s"]["value"])
        phase.forecast_error.append(one["forecast_error"])
        nbytes = one["disk_bytes_per_token"]
        if nbytes is not None:
            phase.disk_bytes_per_token.append(nbytes["median"])
            phase.stall_share.append(one["stall_share"]["median"])
        if one["hit_rate"] is not None:
            phase.hit_rate.append(one["hit_rate"]["median"])
        given = disk
        if one["reading_GBps"] is not None:
            given = one["reading_GBps"]["median"]
            phase.reading_GBps.append(given)
            phase.given_disk_error.append(one["given_disk_error"])
        for rate, bounds in ((disk, phase.bound_tok_s), (given, phase.given_disk_bound_tok_s)):
            bound = bound_tok_s(resident.get(one["phase"]), nbytes["median"] if nbytes else 0.0, rate)
            if bound is not None:
                bounds.append(bound)


def bound_tok_s(resident: float | None, disk_bytes_per_token: float, disk_gb_s: float) -> float | None:
    """Tokens a second if computing and reading overlap wholly: the slower of the two decides.

    Args:
        resident: tokens a second with all weights in memory; None where that is not known.
    """
    seconds = [disk_bytes_per_token / (disk_gb_s * 1e9), 1 / resident if resident else 0.0]
    return 1 / max(seconds) if max(seconds) else None


def note_theirs(wanted: argparse.Namespace, row: Row, run: Run) -> None:
    """What llama-bench printed; of a phase that it did not finish, what it can have reached at most."""
    reached = rates_of(run.out)
    for name, tokens in (("prefill", wanted.prompt), ("decode", wanted.decode)):
        if name in reached:
            row.phases[name].tok_s.append(reached[name])
        else:
            row.phases[name].at_most.append(tokens / run.seconds if run.outcome == "unfinished" else 0.0)
            break


def rates_of(out: str) -> dict[str, float]:
    """Tokens a second by phase, from lines of JSON, of which the last may be cut off."""
    found: dict[str, float] = {}
    for line in out.splitlines():
        try:
            one = json.loads(line)
        except ValueError:
            continue
        found["prefill" if one["n_prompt"] else "decode"] = float(one["avg_ts"])
    return found


def last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error")]
    return (errors or lines or ["it said nothing"])[-1].strip()


def report_of(
    wanted: argparse.Namespace, rows: list[Row], resident: list[dict[str, float]], notes: list[str]
) -> dict[str, Any]:
    from apportion.bench.provenance import provenance  # after all runs: it is large

    return {
        "model": wanted.model.name,
        "file_bytes": wanted.model.stat().st_size,
        "prompt": wanted.prompt,
        "decode": wanted.decode,
        "warmup": wanted.warmup,
        "threads": wanted.threads,
        "rounds": wanted.rounds,
        "resident_tok_s": {
            phase: spread([rates[phase] for rates in resident if rates]) for phase in resident[0]
        },
        "rows": [told(row) for row in rows],
        "notes": notes,
        "provenance": asdict(provenance()),
    }


def told(row: Row) -> dict[str, Any]:
    """A row with medians and spread; null where nothing was measured."""
    phases = {
        name: {key: spread(values) if values else None for key, values in asdict(phase).items()}
        for name, phase in row.phases.items()
    }
    return asdict(row) | {
        "phases": phases,
        "disk_GBps": spread(row.disk_GBps) if row.disk_GBps else None,
        "read_bytes": spread(row.read_bytes) if row.read_bytes else None,
    }


if __name__ == "__main__":
    main()
