"""Products beside the machine's limits: what is run, and how much that is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from apportion.bench import kernels, limits
from apportion.bench.kernels import KernelBench, Work, cold_stack, random_weight, seconds_of
from apportion.bench.shapes import SHAPES, ExpertProducts, ModelShape, Product
from apportion.formats.blocks import FORMATS, format_by_name
from apportion.kernels import NativeOps

DENSE = ModelShape("dense", (Product("a", 48, 64), Product("b", 64, 32)), Product("head", 80, 64))
SPARSE = ModelShape("sparse", (Product("a", 32, 32),), Product("head", 64, 32), ExpertProducts(8, 2, 32, 64))
NATIVE = [name for name, block_format in FORMATS.items() if block_format.native]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAM_NBYTES", 1 << 20)
    monkeypatch.setattr(kernels, "COLD_NBYTES", 1 << 14)
    monkeypatch.setattr(kernels, "POOL_NUMBERS", 1 << 12)
    monkeypatch.setattr(kernels, "MIN_SECONDS", 0.0)


@pytest.fixture
def bench() -> KernelBench:
    return KernelBench(NativeOps(1), tokens=5, repetitions=2)


def test_every_product_is_measured_for_one_token_and_for_many_and_the_head_for_one(
    bench: KernelBench,
) -> None:
    found = list(bench.measure(SPARSE, format_by_name("q4_0")))
    assert [(one.kind, one.part, one.product, one.tokens) for one in found] == [
        ("matvec", "layer", "a", 1),
        ("matmat", "layer", "a", 5),
        ("matvec", "layer", "experts", 1),
        ("matmat", "layer", "experts", 5),
        ("matvec", "head", "head", 1),
    ]
    for one in found:
        assert (one.model, one.format, one.threads) == ("sparse", "q4_0", 1)
        assert 0 < one.rate.min <= one.rate.median <= one.rate.max
        assert one.share == pytest.approx(one.rate.median / one.limit.median)


def test_amounts_are_bytes_of_all_copies_and_two_operations_per_multiply_add(bench: KernelBench) -> None:
    vector, matrix, *_ = bench.measure(DENSE, format_by_name("q8_0"))
    copies = -(-(1 << 14) // (48 * 68))
    assert vector.amount == copies * 48 * 68
    assert matrix.amount == 2 * 5 * 48 * 64


def test_experts_read_each_expert_once_and_multiply_those_that_tokens_use(bench: KernelBench) -> None:
    vector, matrix = list(bench.measure(SPARSE, format_by_name("q8_0")))[2:4]
    assert vector.amount == 8 * 3 * 32 * 68
    assert matrix.amount == 2 * 5 * 2 * 3 * 32 * 64


def test_a_format_that_cannot_hold_all_rows_is_left_out(bench: KernelBench) -> None:
    assert not list(bench.measure(DENSE, format_by_name("q4_k")))


@pytest.mark.parametrize(
    ("name", "exact", "kind"),
    [
        ("q4_0", False, "int8"),
        ("q4_0", True, "f32"),
        ("q8_0", False, "int16"),
        ("f16", False, "f32"),
        ("bf16", False, "bf16"),
    ],
)
def test_the_peak_is_that_of_the_formats_arithmetic(
    name: str, exact: bool, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = set()

    def peak(kind: str, threads: int, isa: str) -> float:
        asked.add((kind, threads, isa))
        return 10.0

    monkeypatch.setattr(kernels, "arithmetic_peak", peak)
    ops = NativeOps(1, exact, "portable")
    list(KernelBench(ops, 2, 1).measure(DENSE, format_by_name(name)))
    assert asked == {(kind, 1, "portable")}


@pytest.mark.parametrize("name", NATIVE)
def test_weights_are_normally_distributed_in_every_format(name: str) -> None:
    numbers = random_weight(format_by_name(name), (3, 16, 512)).dequantize()
    assert np.isfinite(numbers).all()
    assert numbers.std() == pytest.approx(0.02, rel=0.2)


def test_copies_are_together_too_large_for_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "COLD_NBYTES", 1 << 20)
    stack = cold_stack(format_by_name("q4_0"), Product("a", 64, 64))
    assert stack.shape[1:] == (64, 64)
    assert stack.nbytes >= 1 << 20
    assert cold_stack(format_by_name("f32"), Product("a", 1024, 1024)).shape[0] == 1


def test_short_work_is_repeated_until_it_can_be_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.004, 0.008, 0.012, 0.012])
    monkeypatch.setattr(kernels, "MIN_SECONDS", 0.01)
    monkeypatch.setattr(kernels.time, "perf_counter", lambda: next(clock))
    runs: list[None] = []
    assert seconds_of(lambda: runs.append(None)) == pytest.approx(0.004)
    assert len(runs) == 3


def test_the_limit_is_measured_before_every_repetition(bench: KernelBench) -> None:
    events: list[str] = []

    def noted(word: str) -> Callable[[], float]:
        def note() -> float:
            events.append(word)
            return 1.0

        return note

    name = kernels.Names("m", "layer", "p", "q4_0")
    bench._beside(name, "matvec", 1, Work(noted("work"), 1.0), noted("limit"))
    assert events == ["work", "limit", "work", "limit", "work"]


def test_known_shapes_hold_the_sizes_of_the_models() -> None:
    assert SHAPES["smollm2-135m"].layer[0] == Product("q+k+v", 960, 576)
    assert SHAPES["qwen3-30b-a3b"].layer == (Product("q+k+v", 5120, 2048), Product("out", 2048, 4096))
    assert SHAPES["olmoe"].all_cols == {2048, 1024}
