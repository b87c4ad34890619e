"""Measure this machine: memory, arithmetic, and the disk that models lie on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from apportion.cli._options import json_option
from apportion.cli._output import note, print_object
from apportion.cli._tables import console, table

if TYPE_CHECKING:
    from rich.table import Table

    from apportion.hardware.profile import DiskProfile, DiskRate, Profile


@click.command()
@click.argument("path", metavar="[PATH]", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--threads", type=click.IntRange(min=1), help="Threads that compute [default: all cores].")
@click.option("--save/--no-save", default=True, show_default=True, help="Keep the profile for later plans.")
@json_option
def command(path: Path | None, threads: int | None, save: bool, as_json: bool) -> None:
    """Measure this machine: memory, arithmetic, and the disk that models lie on.

    PATH is a model file, or a folder whose largest file is read; without it, the folder of models that
    apportion keeps. Nothing is written to it. The disk is read past the page cache at places by chance, by
    block size and by how many reads are under way at once, alone and beside threads that compute. Takes less
    than 15 seconds. The profile is kept, one for each device.
    """
    from apportion.bench.probe import probe
    from apportion.core.settings import THREADS, get
    from apportion.hardware.profile import save_profile
    from apportion.kernels.native import available_threads

    file = file_to_read(path)
    on_stage = tell_stage if sys.stderr.isatty() else None
    count = threads or get(THREADS) or available_threads()
    profile = probe(file, count, on_stage) if on_stage else probe(file, count)
    if as_json:
        print_object(profile.to_dict())
    else:
        print_profile(profile)
    if save:
        where = keep(profile, save_profile)
        if where is not None and not as_json:
            note(f"saved as {where}")


def file_to_read(path: Path | None) -> Path | None:
    """The file that PATH means; None where there is none to measure a disk with."""
    from apportion.bench.disk import MIN_FILE_NBYTES, largest_file
    from apportion.core.settings import MODELS_DIR, get

    if path is not None and not path.is_dir():
        return path
    found = largest_file(path or get(MODELS_DIR))
    return found if found is not None and found.stat().st_size >= MIN_FILE_NBYTES else None


def tell_stage(stage: str) -> None:
    note(f"measuring {stage} ...")


def keep(profile: Profile, save: Callable[[Profile], Path]) -> Path | None:
    """Save, and say where that is not possible: the figures are worth showing all the same."""
    try:
        return save(profile)
    except OSError as error:
        note(f"the profile could not be saved: {error}")
        return None


def print_profile(profile: Profile) -> None:
    out = console()
    out.print(machine_table(profile))
    out.print(products_table(profile))
    if profile.disk is None:
        out.print("The disk was not measured: name a model file, or a folder with one.")
        return
    out.print(disk_table(profile.disk))
    for line in profile.disk.notes:
        out.print(line)


def machine_table(profile: Profile) -> Table:
    from apportion.core.units import format_bytes

    memory = profile.memory
    rows = [
        ("processor", f"{profile.processor}, {', '.join(profile.isas)}"),
        ("memory", f"{format_bytes(memory.total)}, {format_bytes(memory.available)} available"),
        ("container limit", "none" if memory.container is None else container(profile)),
        ("free for us", format_bytes(memory.free)),
    ]
    rows += [
        (f"memory, {threads} thread{'s' * (threads > 1)}", f"{rate:.1f} GB/s")
        for threads, rate in profile.memory_GBps.items()
    ]
    rows += [(f"{kind}, {profile.threads} threads", f"{rate:.0f} GOP/s") for kind, rate in peaks(profile)]
    return table(("machine", ""), rows)


def container(profile: Profile) -> str:
    from apportion.core.units import format_bytes

    limit, free = profile.memory.container or 0, profile.memory.container_free or 0
    return f"{format_bytes(limit)}, {format_bytes(free)} left"


def peaks(profile: Profile) -> list[tuple[str, float]]:
    return list(profile.peak_GOps.items())


def products_table(profile: Profile) -> Table:
    rows = [
        (name, f"{rates.matvec_GBps:.1f}", f"{rates.matmat_GOps:.0f}")
        for name, rates in profile.products.items()
    ]
    return table(("products", "one token, GB/s", "many, GOP/s"), rows, numbers=(1, 2))


def disk_table(disk: DiskProfile) -> Table:
    from apportion.core.units import format_bytes

    system = disk.file_system
    how = f"{'direct' if disk.direct else 'buffered'} reads by {disk.backend}"
    title = f"{system.kind} on {system.source or system.device}, {how}"
    rows = [
        (
            f"{format_bytes(rate.block_nbytes)}, {rate.depth} at once"
            + (", beside computing" if rate.beside else ""),
            f"{rate.GBps.median:.2f}",
            f"{rate.GBps.min:.2f} to {rate.GBps.max:.2f}",
            f"{reads_per_second(rate):,.0f}",
        )
        for rate in disk.rates
    ]
    return table((title, "GB/s", "range", "reads/s"), rows, numbers=(1, 2, 3))


def reads_per_second(rate: DiskRate) -> float:
    return rate.GBps.median * 1e9 / rate.block_nbytes
