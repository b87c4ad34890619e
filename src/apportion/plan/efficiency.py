"""What products of weights cost: how much of the machine's limits the kernels reach, by block format.

The shares are those of `apportion bench-kernels` in docs/benchmarks.md (two threads, AVX2): the median over
the products of OLMoE, Qwen3-30B-A3B and Gemma 3 270M, each held against the limit measured beside it.
"""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class Products:
    """The products with some matrices, at the machine's limits: what they would cost if the kernels reached
    them is divided by the share that they do reach.

    Attributes:
        nbytes: of the matrices.
        streamed: bytes that a pass streams from memory.
        int8_ops, f32_ops: operations for each token of a pass.
    """

    nbytes: int = 0
    streamed: float = 0.0
    int8_ops: float = 0.0
    f32_ops: float = 0.0

    @classmethod
    def of(cls, unit: Unit | None, nbytes: int, numbers: int) -> Products:
        """Of a unit's matrices; where there is none, of `numbers` numbers in `nbytes` bytes of any format."""
        if unit is None:
            return cls._of_format("f32" if nbytes >= 4 * numbers else "", nbytes, numbers)
        parts = [cls._of_format(m.format.name, m.nbytes, prod(m.shape)) for m in unit.members]
        return cls(
            sum(part.nbytes for part in parts),
            sum(part.streamed for part in parts),
            sum(part.int8_ops for part in parts),
            sum(part.f32_ops for part in parts),
        )

    @classmethod
    def _of_format(cls, name: str, nbytes: int, numbers: int) -> Products:
        ops = 2 * numbers / MATMAT.get(name, OTHERS)
        streamed = nbytes / MATVEC.get(name, OTHERS)
        return cls(nbytes, streamed, 0.0, ops) if name in FLOATS else cls(nbytes, streamed, ops, 0.0)

    def seconds(self, machine: Machine, tokens: float = 1) -> float:
        """Of a pass of so many tokens: the longer of streaming and multiplying."""
        multiplying = tokens * (self.int8_ops / machine.int8 + self.f32_ops / machine.f32)
        return max(self.streamed / machine.memory, multiplying)
