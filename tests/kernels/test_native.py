"""What the core promises beside numbers: its choice of instructions, refusing bad arrays, many callers."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from tests.kernels.tables import alone, new_table

from apportion import _native
from apportion.core.errors import Unsupported, UsageError
from apportion.formats.block import BlockFormat, Floats
from apportion.formats.blocks import FORMATS
from apportion.kernels import ExpertWeights, LayerShape, NativeOps, Routing, Weight, available_isas, native

MakeOps = Callable[..., NativeOps]
MakeWeight = Callable[..., Weight]
OPS = NativeOps(threads=2)


def zeros(*shape: int) -> Floats:
    return np.zeros(shape, np.float32)


def test_the_portable_code_runs_everywhere() -> None:
    assert available_isas()[-1] == "portable"


def test_the_environment_chooses_the_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPORTION_ISA", "portable")
    assert NativeOps(1).isa == "portable"


def fast_isas() -> list[str]:
    return [isa for isa in available_isas() if isa != "portable"]


@pytest.mark.parametrize("isa", fast_isas())
@pytest.mark.parametrize("tokens", [1, 7, 31])
def test_a_fast_instruction_set_multiplies_as_the_portable_code_does(
    make_weight: MakeWeight, native_format: BlockFormat, isa: str, tokens: int
) -> None:
    weight = make_weight(native_format, (48, 1536), 11)
    x = np.random.default_rng(11).standard_normal((tokens, 1536)).astype(np.float32)
    # What float32 sums may be off by: both round activations to the same integers.
    bound = 2e-6 * np.abs(x).sum(axis=1, keepdims=True) * np.abs(weight.dequantize()).max()
    for exact in (False, True):
        ours, portable = (NativeOps(2, exact, chosen).linear(x, weight) for chosen in (isa, "portable"))
        assert np.all(np.abs(ours - portable) <= bound)


def test_an_unknown_instruction_set_is_refused_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPORTION_ISA", "mmx")
    with pytest.raises(UsageError, match=r"'mmx'.*portable"):
        NativeOps(1)


@pytest.mark.parametrize("threads", [0, -1, 100_000])
def test_an_impossible_number_of_threads_is_refused(threads: int) -> None:
    with pytest.raises(UsageError, match="threads"):
        NativeOps(threads)


def test_memory_has_a_bandwidth() -> None:
    stream = _native.Stream(7 << 20, 2)
    assert stream.nbytes == 8 << 20
    assert stream.read(1) > 0.01
    assert stream.read(2) > 0.01


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("kind", ["int8", "int16", "f32", "bf16"])
def test_arithmetic_has_a_peak(kind: str, isa: str) -> None:
    assert _native.compute_peak(kind, 1, isa, 5) > 0.1


def test_limits_of_what_is_not_there_are_refused() -> None:
    refuses("no peak is called int3", lambda: _native.compute_peak("int3", 1))
    refuses("instruction set mmx", lambda: _native.compute_peak("f32", 1, "mmx"))
    refuses("threads", lambda: _native.compute_peak("f32", 0))
    refuses("threads", lambda: _native.Stream(1 << 20, 0))
    refuses("threads", lambda: _native.Stream(1 << 20, 1).read(0))


def test_the_time_in_the_core_is_counted_for_the_thread_that_calls() -> None:
    before, begin = _native.busy_seconds(), time.perf_counter()
    _native.compute_peak("f32", 1, "", 3)
    assert 0 < _native.busy_seconds() - before <= time.perf_counter() - begin
    elsewhere: list[float] = []
    other = threading.Thread(target=lambda: elsewhere.append(_native.busy_seconds()))
    other.start()
    other.join()
    assert elsewhere == [0.0]


def test_types_without_kernels_are_refused() -> None:
    with pytest.raises(ValueError, match="no kernels for ggml type 999"):
        _native.dequantize(999, np.zeros(4, np.uint8), zeros(1, 1))


def test_linear_refuses_what_does_not_fit(make_weight: MakeWeight) -> None:
    weight = make_weight(FORMATS["q4_k"], (8, 256), 0)
    short = Weight(weight.format, weight.shape, weight.data[:, :-1].copy())
    refuses("bytes", lambda: OPS.linear(zeros(2, 256), short))
    refuses("whole blocks", lambda: OPS.linear(zeros(2, 100), weight))
    refuses("bytes", lambda: OPS.linear(zeros(2, 512), weight))
    refuses("dimensions", lambda: OPS.linear(zeros(2, 256, 1), weight))
    refuses("contiguous", lambda: OPS.linear(zeros(2, 512)[:, ::2], weight))
    refuses("type", lambda: OPS.linear(np.zeros((2, 256)), weight))
    refuses("bias must have 8", lambda: OPS.linear(zeros(2, 256), weight, zeros(7)))
    odd = np.zeros(2049, np.uint8)[1:].view(np.float32).reshape(2, 256)
    refuses("type|aligned", lambda: OPS.linear(odd, weight))


def test_linear_heads_and_embed_refuse_what_does_not_fit(make_weight: MakeWeight) -> None:
    weight = make_weight(FORMATS["q8_0"], (2, 3, 32), 0)
    refuses("bytes", lambda: OPS.linear_heads(zeros(1, 3, 32), weight))
    for bad in (-1, 6):
        refuses("outside", lambda bad=bad: OPS.embed(np.array([bad], np.int32), weight_table(weight)))
    refuses("type", lambda: OPS.embed(np.array([0]), weight_table(weight)))


def weight_table(stack: Weight) -> Weight:
    return Weight(stack.format, (6, 32), stack.data.reshape(6, -1))


def test_the_elementwise_operations_refuse_what_does_not_fit() -> None:
    refuses("wide", lambda: OPS.rms_norm(zeros(2, 8), zeros(4), 1e-5))
    refuses("one shape", lambda: OPS.gate(zeros(2, 8), zeros(2, 4), "silu"))
    positions = np.zeros(2, np.int32)
    refuses("tokens", lambda: OPS.rope(zeros(3, 1, 8), positions, zeros(4), "half"))
    refuses("frequencies", lambda: OPS.rope(zeros(2, 1, 8), positions, zeros(5), "half"))
    refuses("contiguous", lambda: OPS.rope(zeros(2, 1, 16)[:, :, ::2], positions, zeros(4), "half"))
    frozen = zeros(2, 1, 8)
    frozen.flags.writeable = False
    refuses("read-only|not writable", lambda: OPS.rope(frozen, positions, zeros(4), "half"))


def test_attention_refuses_what_does_not_fit() -> None:
    table = new_table(32, LayerShape(2, 4, 5), "f16")
    own = alone(table, 0, 2)
    refuses("no room", lambda: OPS.attend(zeros(2, 4, 4), alone(table, 31, 2), 0, 1.0))
    refuses("no room", lambda: OPS.append(alone(table, 31, 2), 0, zeros(2, 2, 4), zeros(2, 2, 5)))
    refuses("multiple", lambda: OPS.attend(zeros(2, 3, 4), own, 0, 1.0))
    refuses("wrong shape", lambda: OPS.attend(zeros(2, 4, 3), own, 0, 1.0))
    refuses("wrong shape", lambda: OPS.attend(zeros(3, 4, 4), own, 0, 1.0))
    refuses("wrong shape", lambda: OPS.append(own, 0, zeros(2, 2, 4), zeros(2, 2, 4)))
    refuses("missing", lambda: OPS.append(own, 0, zeros(2, 2, 4), None))
    refuses("no such layer", lambda: OPS.append(own, 1, zeros(2, 2, 4), zeros(2, 2, 5)))
    refuses("sinks", lambda: OPS.attend(zeros(2, 4, 4), own, 0, 1.0, sinks=zeros(3)))


def test_routing_and_experts_refuse_what_does_not_fit(make_weight: MakeWeight) -> None:
    refuses("top_k", lambda: OPS.route(zeros(1, 4), Routing(5)))
    refuses("divide", lambda: OPS.route(zeros(1, 4), Routing(1, num_groups=3)))
    refuses("fewer than top_k", lambda: OPS.route(zeros(1, 4), Routing(2, num_groups=4)))
    gate = make_weight(FORMATS["q8_0"], (2, 32, 64), 0)
    down = make_weight(FORMATS["q8_0"], (2, 64, 32), 0)
    layer = ExpertWeights(gate, gate, down)
    x, weights = zeros(1, 64), zeros(1, 1)
    for bad in (-1, 2):
        ids = np.array([[bad]], np.int32)
        refuses("outside", lambda ids=ids: OPS.experts(x, ids, weights, layer, "silu"))
    ids = np.zeros((1, 1), np.int32)
    refuses("bytes", lambda: OPS.experts(x, ids, weights, ExpertWeights(gate, gate, down[:1]), "silu"))
    refuses("bias", lambda: OPS.experts(x, ids, weights, ExpertWeights(gate, gate, down, zeros(2)), "silu"))


def refuses(match: str, call: Callable[[], object]) -> None:
    with pytest.raises((ValueError, BufferError), match=match):
        call()


def test_no_tokens_give_no_rows(make_ops: MakeOps, make_weight: MakeWeight) -> None:
    ops, weight = make_ops(threads=2), make_weight(FORMATS["q4_0"], (8, 32), 0)
    assert ops.linear(zeros(0, 32), weight).shape == (0, 8)


def test_calls_from_several_threads_at_once_do_not_disturb_each_other(
    make_ops: MakeOps, make_weight: MakeWeight
) -> None:
    ops, weight = make_ops(threads=2), make_weight(FORMATS["q4_1"], (300, 512), 1)
    inputs = [np.random.default_rng(i).standard_normal((3, 512)).astype(np.float32) for i in range(4)]
    expected = [ops.linear(x, weight) for x in inputs]
    wrong: list[int] = []

    def call(index: int) -> None:
        for _ in range(50):
            if not np.array_equal(ops.linear(inputs[index], weight), expected[index]):
                wrong.append(index)

    callers = [threading.Thread(target=call, args=(index,)) for index in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def compute_in_child(expected: Floats, weight: Weight, x: Floats) -> None:
    assert np.array_equal(NativeOps(2).linear(x, weight), expected)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
def test_a_forked_child_computes_with_threads_of_its_own(make_weight: MakeWeight) -> None:
    weight, x = make_weight(FORMATS["q4_1"], (300, 512), 1), np.ones((3, 512), np.float32)
    child = multiprocessing.get_context("fork").Process(
        target=compute_in_child, args=(OPS.linear(x, weight), weight, x)
    )
    child.start()
    child.join(30)
    assert child.exitcode == 0


def test_a_processor_without_any_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "available_isas", list)
    with pytest.raises(Unsupported, match="processor is not supported"):
        NativeOps()
