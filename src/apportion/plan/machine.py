"""What a machine does in a second: the rates that forecasts are reckoned with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from apportion.core.units import MiB
from apportion.hardware.profile import DiskProfile, Profile
from apportion.memory import CHUNK_NBYTES

MAX_DEPTH = 8  # reads that are under way at once; more gain nothing on the disks that were measured

# Where nothing was measured: what an old notebook with a SATA disk has, per thread where it grows with them.
ASSUMED_MEMORY_PER_THREAD = 8e9
ASSUMED_MEMORY = 16e9
ASSUMED_INT8_PER_THREAD = 50e9
ASSUMED_F32_PER_THREAD = 25e9
ASSUMED_DISK = 0.5e9
ASSUMED_DISK_RANGE = (0.5, 4.0)


@dataclass(frozen=True, slots=True)
class Way:
    """A measured way of reading: blocks of `nbytes`, `depth` at once."""

    nbytes: int
    depth: int
    rate: float


@dataclass(frozen=True, slots=True)
class DiskRates:
    """Bytes that a disk reads in a second.

    Attributes:
        alone: at least one way.
        beside: ways that were measured while threads computed; without any, computing costs nothing.
        low, high: what the rates drift by, as factors.
    """

    alone: tuple[Way, ...]
    beside: tuple[Way, ...] = ()
    low: float = 1.0
    high: float = 1.0

    def rate(self, nbytes: float, depth: int, *, beside: bool) -> float:
        """Of reads of `nbytes` bytes, `depth` of them at once.

        Between measured sizes and depths straight lines are drawn over their logarithms. Beyond what was
        measured beside computing, it costs the same share as at the nearest way that was.
        """
        depth = min(depth, MAX_DEPTH)
        rate = _rate(self.alone, nbytes, depth)
        if not beside or not self.beside:
            return rate
        return (
            rate
            * _rate(self.beside, nbytes, depth)
            / _rate(self.alone, *_nearest(self.beside, nbytes, depth))
        )

    def seconds(self, nbytes: float, count: float, *, beside: bool) -> float:
        """For `count` reads of `nbytes` bytes that are asked for together, long ones chunk by chunk."""
        if not count or not nbytes:
            return 0.0
        chunk = min(nbytes, CHUNK_NBYTES)
        return count * nbytes / self.rate(chunk, math.ceil(count * nbytes / chunk), beside=beside)

    def seconds_while(self, computing: float, nbytes: float, count: float) -> float:
        """The same, where threads compute for so many seconds meanwhile and then wait for the reads."""
        beside = self.seconds(nbytes, count, beside=True)
        if beside <= computing:
            return beside
        return computing + (1 - computing / beside) * self.seconds(nbytes, count, beside=False)

    @property
    def best(self) -> float:
        """The fastest rate alone."""
        return max(way.rate for way in self.alone)

    @property
    def best_beside(self) -> float:
        """The fastest rate while threads compute."""
        return max(way.rate for way in self.beside or self.alone)

    def drifted(self, factor: float) -> DiskRates:
        """The same, faster or slower throughout."""
        alone = tuple(replace(way, rate=way.rate * factor) for way in self.alone)
        return replace(self, alone=alone, beside=tuple(replace(w, rate=w.rate * factor) for w in self.beside))


@dataclass(frozen=True, slots=True)
class Product:
    """Products with matrices of one format: bytes of weights a second for one token, operations for many."""

    streaming: float
    multiplying: float


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine's rates with the threads that compute.

    Attributes:
        memory: bytes streamed from memory in a second.
        int8, f32: operations in a second at the peak, a multiply-add being two.
        basis: where they are known from, for people.
        products: what the kernels reach, by block format; where that was not measured, see `plan.efficiency`.
    """

    memory: float
    int8: float
    f32: float
    disk: DiskRates
    basis: str
    products: Mapping[str, Product] = field(default_factory=dict)

    def drifted(self, factor: float) -> Machine:
        """With a faster or slower disk."""
        return replace(self, disk=self.disk.drifted(factor))


def machine(profile: Profile | None, threads: int, disk_rate: float | None = None) -> Machine:
    """The rates of a measured machine, or assumed ones.

    Args:
        threads: that compute.
        disk_rate: bytes a second, in place of what was measured.
    """
    basis = "assumed rates, nothing was measured" if profile is None else f"the profile of {profile.date}"
    disk, words = _disk(profile, disk_rate)
    products: dict[str, Product] = {}
    if profile is None:
        memory = min(ASSUMED_MEMORY, ASSUMED_MEMORY_PER_THREAD * threads)
        int8, f32 = ASSUMED_INT8_PER_THREAD * threads, ASSUMED_F32_PER_THREAD * threads
    else:
        memory = 1e9 * _at_threads(profile.memory_GBps, threads)
        share = min(1.0, threads / profile.threads)
        int8 = 1e9 * share * profile.peak_GOps["int8"]
        f32 = 1e9 * share * profile.peak_GOps["f32"]
        of_stream = memory / (1e9 * _at_threads(profile.memory_GBps, profile.threads))
        products = {
            name: Product(1e9 * of_stream * rates.matvec_GBps, 1e9 * share * rates.matmat_GOps)
            for name, rates in profile.products.items()
        }
    return Machine(memory, int8, f32, disk, f"{basis}: memory {memory / 1e9:.1f} GB/s, {words}", products)


def _disk(profile: Profile | None, stated: float | None) -> tuple[DiskRates, str]:
    if stated is not None:
        return DiskRates((Way(MiB, 1, stated),)), f"disk {stated / 1e9:.2f} GB/s as stated"
    found = None if profile is None else profile.disk
    if found is None or found.best(beside=False) is None:
        low, high = ASSUMED_DISK_RANGE
        rates = DiskRates((Way(MiB, 1, ASSUMED_DISK),), low=low, high=high)
        return rates, f"disk {ASSUMED_DISK / 1e9:.2f} GB/s assumed"
    rates = _measured_disk(found)
    return rates, f"disk {rates.best_beside / 1e9:.2f} GB/s beside computing"


def _measured_disk(disk: DiskProfile) -> DiskRates:
    ways = {
        beside: tuple(
            Way(rate.block_nbytes, rate.depth, 1e9 * rate.GBps.median)
            for rate in disk.rates
            if rate.beside == beside
        )
        for beside in (False, True)
    }
    drifts = disk.best(beside=True) or disk.best(beside=False)
    assert drifts is not None
    return DiskRates(
        ways[False],
        ways[True],
        low=drifts.GBps.min / drifts.GBps.median,
        high=drifts.GBps.max / drifts.GBps.median,
    )


def _rate(ways: Sequence[Way], nbytes: float, depth: int) -> float:
    """By size at each measured depth, then by depth."""
    depths = sorted({way.depth for way in ways})
    at_depth = []
    for each in depths:
        by_size = sorted((way for way in ways if way.depth == each), key=lambda way: way.nbytes)
        at_depth.append(_between([way.nbytes for way in by_size], [way.rate for way in by_size], nbytes))
    return _between(depths, at_depth, depth)


def _nearest(ways: Sequence[Way], nbytes: float, depth: int) -> tuple[float, int]:
    """Size and depth, within what was measured."""
    sizes, depths = [way.nbytes for way in ways], [way.depth for way in ways]
    return min(max(nbytes, min(sizes)), max(sizes)), min(max(depth, min(depths)), max(depths))


def _at_threads(rates: Mapping[int, float], threads: int) -> float:
    counts = sorted(rates)
    return _between(counts, [rates[count] for count in counts], threads)


def _between(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    """On straight lines over the logarithm of `x`; beyond the ends, the end."""
    for before, after in zip(range(len(xs) - 1), range(1, len(xs)), strict=True):
        if x < xs[after]:
            share = max(0.0, math.log(x / xs[before]) / math.log(xs[after] / xs[before]))
            return ys[before] + share * (ys[after] - ys[before])
    return ys[-1]
