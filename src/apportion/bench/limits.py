"""What the machine itself can do, measured on the spot: the memory's bandwidth, the processor's arithmetic.

Other work and the clock's frequency move both from second to second, so whoever reports a share measures the
limit again beside each measurement.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from apportion import _native

STREAM_NBYTES = 256 << 20  # far beyond any cache
PASSES = 3  # over the stream for one figure: others only ever slow one down

PeakKind: TypeAlias = Literal["int8", "int16", "f32", "bf16"]

# Of formats that are not multiplied as int8: numbers, and signed codes, which meet 13-bit activations.
PEAKS: dict[str, PeakKind] = {
    "f32": "f32",
    "f16": "f32",
    "bf16": "bf16",
    "q8_0": "int16",
    "iq4_nl": "int16",
    "iq4_xs": "int16",
}


def peak_of(format_name: str) -> PeakKind:
    """What bounds products of many tokens with a format's weights."""
    return PEAKS.get(format_name, "int8")


@dataclass(frozen=True, slots=True)
class Rates:
    """A rate over repetitions, in the unit that its owner names."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, rates: Sequence[float]) -> Rates:
        return cls(statistics.median(rates), min(rates), max(rates))


class Bandwidth:
    """Reads memory as fast as it comes; holds the buffer, so that each figure costs some milliseconds.

    Args:
        threads: the most that will read together.
        nbytes: of the buffer.
    """

    def __init__(self, threads: int, nbytes: int | None = None) -> None:
        self._stream = _native.Stream(STREAM_NBYTES if nbytes is None else nbytes, threads)

    def measure(self, threads: int) -> float:
        """GB/s that so many threads read together."""
        return max(self._stream.read(threads) for _ in range(PASSES))


def arithmetic_peak(kind: PeakKind, threads: int, isa: str = "") -> float:
    """GOP/s of multiply-adds in registers, each counted as two operations.

    Args:
        kind: int8 by int8, int16 by int16, f32, or bf16 summed in f32, which is the f32 rate where there are
            no instructions for it.
        isa: instruction set; the fastest if empty.
    """
    return _native.compute_peak(kind, threads, isa)
