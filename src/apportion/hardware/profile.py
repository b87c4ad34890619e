"""The profile of a machine: what it has, what it allows, and what was measured. Saved once, read by planners.

A profile belongs to one device that models lie on, for reading from it is what differs most.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from apportion.core.errors import BadFile, NotFound
from apportion.hardware.memory import MemoryLimits
from apportion.hardware.storage import FileSystem

VERSION = 2
MAX_FILE_NBYTES = 1024**2


@dataclass(frozen=True, slots=True)
class Range:
    """A rate over repetitions: what to expect, and how far this machine drifts."""

    median: float
    min: float
    max: float


@dataclass(frozen=True, slots=True)
class DiskRate:
    """Reads of `block_nbytes` at random places, `depth` of them at once, past the page cache; `beside` other
    threads that read memory all the time, or alone.
    """

    block_nbytes: int
    depth: int
    beside: bool
    GBps: Range


@dataclass(frozen=True, slots=True)
class ProductRates:
    """Products with matrices of one format, by all threads: GB/s of weights for one token, from memory, and
    GOP/s for many, a multiply-add being two.
    """

    matvec_GBps: float  # noqa: N815
    matmat_GOps: float  # noqa: N815


@dataclass(frozen=True, slots=True)
class DiskProfile:
    """Reading from one device.

    Args:
        backend: `ring` or `threads`.
        direct: whether reads go past the page cache.
        file_nbytes: of the file that was read; a small one may have been read more than once.
    """

    file_system: FileSystem
    backend: str
    direct: bool
    file_nbytes: int
    rates: tuple[DiskRate, ...]
    notes: tuple[str, ...]

    def best(self, *, beside: bool) -> DiskRate | None:
        """The fastest way of reading that was found."""
        found = [rate for rate in self.rates if rate.beside == beside]
        return max(found, key=lambda rate: rate.GBps.median, default=None)


@dataclass(frozen=True, slots=True)
class Profile:
    """What planners reckon with.

    Args:
        memory_GBps: what a stream from memory reaches, by number of threads.
        peak_GOps: multiply-adds in registers by kind of number, all threads, two operations each.
        products: what the kernels reach, by block format.
        date: of the measurement, UTC, ISO 8601.
    """

    processor: str
    isas: tuple[str, ...]
    threads: int
    memory: MemoryLimits
    memory_GBps: dict[int, float]  # noqa: N815
    peak_GOps: dict[str, float]  # noqa: N815
    products: dict[str, ProductRates]
    disk: DiskProfile | None
    date: str

    def to_dict(self) -> dict[str, Any]:
        """As one object that `json.dumps` takes as it is, and `from_dict` takes back."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Profile:
        """The profile that `to_dict` told.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        if told["version"] != VERSION:
            raise ValueError(f"version {told['version']}")
        return cls(
            processor=str(told["processor"]),
            isas=tuple(told["isas"]),
            threads=int(told["threads"]),
            memory=MemoryLimits(**told["memory"]),
            memory_GBps={int(threads): float(rate) for threads, rate in told["memory_GBps"].items()},
            peak_GOps={str(kind): float(rate) for kind, rate in told["peak_GOps"].items()},
            products={str(name): ProductRates(**rates) for name, rates in told["products"].items()},
            disk=None if told["disk"] is None else _disk(told["disk"]),
            date=str(told["date"]),
        )


def _disk(told: dict[str, Any]) -> DiskProfile:
    rates = (DiskRate(**{**rate, "GBps": Range(**rate["GBps"])}) for rate in told["rates"])
    return DiskProfile(
        **{
            **told,
            "file_system": FileSystem(**told["file_system"]),
            "rates": tuple(rates),
            "notes": tuple(told["notes"]),
        }
    )


def profile_path(device: str | None) -> Path:
    """Where the profile for models on `device` is kept; None is for a profile without a disk."""
    import platformdirs

    folder = platformdirs.user_cache_path("apportion", appauthor=False) / "profiles"
    return folder / f"{(device or 'none').replace(':', '-')}.json"


def save_profile(profile: Profile) -> Path:
    """Keep a profile in place of an older one of the same device; where.

    Raises:
        OSError: it cannot be written.
    """
    path = profile_path(profile.disk.file_system.device if profile.disk else None)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(profile.to_dict(), indent=1) + "\n", encoding="utf-8")
    new.replace(path)
    return path


def load_profile(device: str | None) -> Profile:
    """The profile that was saved for models on `device`.

    Raises:
        NotFound: none was.
        BadFile: it is damaged, or of another version.
    """
    path = profile_path(device)
    hint = "measure again with: apportion probe"
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_FILE_NBYTES)
    except FileNotFoundError:
        raise NotFound("no profile of this machine", "it was not measured yet", hint) from None
    try:
        return Profile.from_dict(json.loads(text))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise BadFile(f"{path} is no profile", str(error), hint) from error
