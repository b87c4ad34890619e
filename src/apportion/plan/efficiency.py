"""What products of weights cost, by block format: what was measured on the machine or, where nothing was, the
share of its limits that the kernels usually reach.

The shares are those of `apportion bench-kernels` on two threads with AVX2: the median over the products of
OLMoE, Qwen3-30B-A3B and Gemma 3 270M, each held against the limit measured beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from apportion.models.units import Unit
from apportion.plan.machine import Machine

# Of the streamed bandwidth, by a product of one token.
MATVEC = {
    "f32": 0.69, "f16": 0.74, "bf16": 0.68, "q4_0": 0.58, "q4_1": 0.60, "q5_0": 0.42, "q5_1": 0.59,
    "q8_0": 0.57, "q2_k": 0.33, "q3_k": 0.28, "q4_k": 0.65, "q5_k": 0.49, "q6_k": 0.59,
    "iq4_nl": 0.50, "iq4_xs": 0.41, "mxfp4": 0.44,
}  # fmt: skip
# Of the peak of multiply-adds, by a product of 512 tokens: of int8, and of f32 for floats.
MATMAT = {
    "f32": 0.62, "f16": 0.65, "bf16": 0.65, "q4_0": 0.77, "q4_1": 0.77, "q5_0": 0.72, "q5_1": 0.77,
    "q8_0": 0.53, "q2_k": 0.71, "q3_k": 0.73, "q4_k": 0.80, "q5_k": 0.77, "q6_k": 0.48,
    "iq4_nl": 0.52, "iq4_xs": 0.49, "mxfp4": 0.75,
}  # fmt: skip
FLOATS = frozenset({"f32", "f16", "bf16"})
OTHERS = 0.55  # of formats that are not listed, and where formats are not known

# How a product of some tokens takes its time, as measured with 1 to 512 of them on two cores of Zen 4.
FEW = 8  # for as many the kernels take codes as they come, and streaming hides behind multiplying
TILE = 16  # what more than a few pay for at least: their kernels multiply so many at once
NOT_HIDDEN = 0.4  # of the shorter of streaming and multiplying, with more than a few


def streaming(machine: Machine, name: str) -> float:
    """Bytes of weights of a format that one token's products read in a second."""
    measured = machine.products.get(name)
    return measured.streaming if measured else machine.memory * MATVEC.get(name, OTHERS)


def multiplying(machine: Machine, name: str) -> float:
    """Operations a second of many tokens' products with weights of a format."""
    measured = machine.products.get(name)
    if measured:
        return measured.multiplying
    return (machine.f32 if name in FLOATS else machine.int8) * MATMAT.get(name, OTHERS)


@dataclass(frozen=True, slots=True)
class Products:
    """The products with some matrices.

    Attributes:
        nbytes, numbers: by format.
    """

    nbytes: Mapping[str, int]
    numbers: Mapping[str, int]

    @classmethod
    def of(cls, unit: Unit | None, nbytes: int, numbers: int) -> Products:
        """Of a unit's matrices; where there is none, of `numbers` numbers in `nbytes` bytes of any format."""
        if unit is None:
            name = "f32" if nbytes >= 4 * numbers else ""
            return cls({name: nbytes}, {name: numbers})
        bytes_of, numbers_of = Counter[str](), Counter[str]()
        for member in unit.members:
            bytes_of[member.format.name] += member.nbytes
            numbers_of[member.format.name] += prod(member.shape)
        return cls(bytes_of, numbers_of)

    def seconds(self, machine: Machine, tokens: float = 1) -> float:
        """Of a pass of so many tokens: the longer of streaming and multiplying, with many also some of the
        shorter.
        """
        reading = sum(nbytes / streaming(machine, name) for name, nbytes in self.nbytes.items())
        computing = sum(2 * numbers / multiplying(machine, name) for name, numbers in self.numbers.items())
        if tokens <= FEW:
            return max(reading, tokens * computing)
        computing *= max(tokens, TILE)
        return max(reading, computing) + NOT_HIDDEN * min(reading, computing)
