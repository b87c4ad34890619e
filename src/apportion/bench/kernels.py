"""Products of every format at the shapes of known models, as shares of what the machine can do.

A matrix-vector product must read its matrix from memory, so it is held against the bandwidth of a plain
stream; copies of the matrix are used in turn, so that none comes from a cache. A matrix-matrix product of
many tokens must multiply, so it is held against the peak of its arithmetic in registers. Every repetition
measures the limit and the product one right after the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal, TypeAlias

import numpy as np

from apportion.bench.limits import Bandwidth, Rates, arithmetic_peak, peak_of
from apportion.bench.shapes import ExpertProducts, ModelShape, Product
from apportion.formats.block import BlockFormat, Floats
from apportion.kernels import ExpertWeights, NativeOps, Weight

COLD_NBYTES = 128 << 20  # of copies: well past every cache
POOL_NUMBERS = 1 << 20  # encoded once, then repeated
MIN_SECONDS = 0.01  # of one repetition; shorter work is repeated within it

Kind: TypeAlias = Literal["matvec", "matmat"]
Part: TypeAlias = Literal["layer", "head"]


@dataclass(frozen=True, slots=True)
class KernelMeasurement:
    """One product, measured.

    Attributes:
        kind: `matvec` for one token, rates in GB/s of weights; `matmat` for many, rates in GOP/s.
        product: its name in the model's layer, or `head`.
        part: `layer` or `head`: what it is summed up with.
        amount: bytes of weights read (matvec), or operations (matmat), by one pass.
        rate, limit: in 1e9 of the amount per second.
        share: the median rate by the median limit.
    """

    kind: Kind
    model: str
    part: Part
    product: str
    format: str
    tokens: int
    threads: int
    amount: float
    rate: Rates
    limit: Rates
    share: float


@dataclass(frozen=True, slots=True)
class Names:
    """What a measurement is of."""

    model: str
    part: Part
    product: str
    format: str


@dataclass(frozen=True, slots=True)
class Work:
    """Something to time: `run` does `amount`, in bytes or operations."""

    run: Callable[[], object]
    amount: float


class KernelBench:
    """Measures products on so many threads.

    Args:
        tokens: of a matrix-matrix product.
        repetitions: of each product, each beside its limit.
    """

    def __init__(self, ops: NativeOps, tokens: int = 512, repetitions: int = 5) -> None:
        self.ops = ops
        self.tokens = tokens
        self.repetitions = repetitions
        self._bandwidth = Bandwidth(ops.threads)

    def measure(self, shape: ModelShape, block_format: BlockFormat) -> Iterator[KernelMeasurement]:
        """All products of the shape; nothing where a row of any is not whole blocks of the format."""
        if any(cols % block_format.block_size for cols in shape.all_cols):
            return
        for product in shape.layer:
            name = Names(shape.name, "layer", product.name, block_format.name)
            stack = cold_stack(block_format, product)
            yield self._against_bandwidth(name, self._steps(stack))
            yield self._against_peak(name, self._product(stack[0]))
        if shape.experts is not None:
            name = Names(shape.name, "layer", "experts", block_format.name)
            experts = random_experts(block_format, shape.experts)
            yield self._against_bandwidth(name, self._expert_steps(shape.experts, experts))
            yield self._against_peak(name, self._expert_tokens(shape.experts, experts))
        name = Names(shape.name, "head", "head", block_format.name)
        yield self._against_bandwidth(name, self._steps(cold_stack(block_format, shape.head)))

    def _steps(self, stack: Weight) -> Work:
        """One token through each matrix of a stack."""
        x = activations(1, stack.shape[-1])
        matrices = [stack[copy] for copy in range(stack.shape[0])]

        def run() -> None:
            for matrix in matrices:
                self.ops.linear(x, matrix)

        return Work(run, stack.nbytes)

    def _product(self, weight: Weight) -> Work:
        x = activations(self.tokens, weight.shape[-1])
        return Work(lambda: self.ops.linear(x, weight), 2 * self.tokens * prod(weight.shape))

    def _expert_steps(self, shape: ExpertProducts, experts: ExpertWeights) -> Work:
        """Single tokens that together use every expert once."""
        steps = shape.count // shape.used
        x, shares = activations(1, shape.hidden), np.full((1, shape.used), 1 / shape.used, np.float32)
        order = np.random.default_rng(0).permutation(shape.count).astype(np.int32)
        routes = [order[step * shape.used :][: shape.used].reshape(1, -1) for step in range(steps)]

        def run() -> None:
            for ids in routes:
                self.ops.experts(x, ids, shares, experts, "silu")

        nbytes = experts.gate.nbytes + experts.up.nbytes + experts.down.nbytes
        return Work(run, nbytes * steps * shape.used / shape.count)

    def _expert_tokens(self, shape: ExpertProducts, experts: ExpertWeights) -> Work:
        """Many tokens, each with experts of its own."""
        rng = np.random.default_rng(0)
        ids = rng.random((self.tokens, shape.count)).argsort(axis=1)[:, : shape.used].astype(np.int32)
        shares = np.full(ids.shape, 1 / shape.used, np.float32)
        x = activations(self.tokens, shape.hidden)
        operations = 2 * ids.size * 3 * shape.inner * shape.hidden
        return Work(lambda: self.ops.experts(x, ids, shares, experts, "silu"), operations)

    def _against_bandwidth(self, name: Names, work: Work) -> KernelMeasurement:
        return self._beside(name, "matvec", 1, work, lambda: self._bandwidth.measure(self.ops.threads))

    def _against_peak(self, name: Names, work: Work) -> KernelMeasurement:
        kind = "f32" if self.ops.exact else peak_of(name.format)
        return self._beside(
            name, "matmat", self.tokens, work, lambda: arithmetic_peak(kind, self.ops.threads, self.ops.isa)
        )

    def _beside(
        self, name: Names, kind: Kind, tokens: int, work: Work, limit_of: Callable[[], float]
    ) -> KernelMeasurement:
        """The work's rate and its limit's, in turn."""
        work.run()  # not counted: pages and caches
        rates, limits = [], []
        for _ in range(self.repetitions):
            limits.append(limit_of())
            rates.append(work.amount / seconds_of(work.run) / 1e9)
        rate, limit = Rates.of(rates), Rates.of(limits)
        share = rate.median / limit.median
        return KernelMeasurement(
            kind,
            name.model,
            name.part,
            name.product,
            name.format,
            tokens,
            self.ops.threads,
            work.amount,
            rate,
            limit,
            share,
        )


def seconds_of(run: Callable[[], object]) -> float:
    """Seconds of one run, over as many as fill the least time that is worth measuring."""
    begin, runs = time.perf_counter(), 0
    while runs == 0 or time.perf_counter() - begin < MIN_SECONDS:
        run()
        runs += 1
    return (time.perf_counter() - begin) / runs


def cold_stack(block_format: BlockFormat, product: Product) -> Weight:
    """Copies [copies, rows, cols] of a matrix, together too large for any cache."""
    one = product.rows * block_format.row_nbytes(product.cols)
    return random_weight(block_format, (max(1, -(-COLD_NBYTES // one)), product.rows, product.cols))


def random_experts(block_format: BlockFormat, shape: ExpertProducts) -> ExpertWeights:
    inner, outer = (shape.count, shape.inner, shape.hidden), (shape.count, shape.hidden, shape.inner)
    gate, up, down = (random_weight(block_format, dims) for dims in (inner, inner, outer))
    return ExpertWeights(gate, up, down)


def random_weight(block_format: BlockFormat, shape: tuple[int, ...]) -> Weight:
    """Normally distributed numbers, as loading would keep them."""
    cols = shape[-1]
    rng = np.random.default_rng(0)
    pool = rng.standard_normal((max(1, POOL_NUMBERS // cols), cols), np.float32) * np.float32(0.02)
    encoded = block_format.quantize(pool)
    data = encoded[np.arange(prod(shape[:-1])) % len(encoded)].reshape(*shape[:-1], -1)
    return Weight(block_format, shape, data).interleave()


def activations(tokens: int, cols: int) -> Floats:
    return np.random.default_rng(1).standard_normal((tokens, cols), np.float32)
