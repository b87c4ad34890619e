"""The core's steps of sampling against NumPy, on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from apportion.kernels import available_isas
from apportion.kernels.sampling import NativeSampling, ReferenceSampling

REFERENCE = ReferenceSampling()
few = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
# Few different numbers, so that there are ties; minus infinity is a forbidden token.
numbers = st.sampled_from([-np.inf, -100.0, -2.5, -1.0, 0.0, 0.5, 1.0, 3.0]) | st.floats(-30, 30, width=32)
rows = hnp.arrays(np.float32, st.integers(1, 5000), elements=numbers, fill=st.floats(-5, 5, width=32))


@pytest.fixture(params=available_isas())
def native(request: pytest.FixtureRequest) -> NativeSampling:
    return NativeSampling(request.param)


def spread(logits: np.ndarray, seed: int) -> np.ndarray:
    """Logits with at least one finite number, their order mixed and most of them unequal."""
    rng = np.random.default_rng(seed)
    some = logits + rng.integers(0, 3, len(logits)).astype(np.float32)
    some[rng.integers(len(some))] = 2.0
    return some


@few
@given(rows, st.integers(0, 99))
def test_best_is_the_first_of_the_largest(native: NativeSampling, logits: np.ndarray, seed: int) -> None:
    logits = spread(logits, seed)
    assert native.best(logits) == REFERENCE.best(logits)
    logits[seed % len(logits)] = np.nan
    assert native.best(logits) == REFERENCE.best(logits)


@few
@given(rows, st.integers(1, 6000), st.integers(0, 99))
def test_largest_come_in_order(native: NativeSampling, logits: np.ndarray, count: int, seed: int) -> None:
    logits = spread(logits, seed)
    count = min(count, len(logits))
    np.testing.assert_array_equal(native.largest(logits, count), REFERENCE.largest(logits, count))


@pytest.mark.parametrize("count", [1, 40, 3000])
@pytest.mark.parametrize("order", [1, -1])
def test_largest_of_a_long_sorted_row(native: NativeSampling, order: int, count: int) -> None:
    logits = np.linspace(-10, 10, 40_000, dtype=np.float32)[::order].copy()
    np.testing.assert_array_equal(native.largest(logits, count), REFERENCE.largest(logits, count))


@few
@given(rows, st.floats(-40, 40, width=32))
def test_above_keeps_the_border(native: NativeSampling, logits: np.ndarray, least: float) -> None:
    np.testing.assert_array_equal(native.above(logits, least), REFERENCE.above(logits, least))
    border = float(logits[0])
    np.testing.assert_array_equal(native.above(logits, border), REFERENCE.above(logits, border))


@few
@given(rows, st.floats(0.01, 0.999), st.integers(0, 99))
def test_reaching_is_the_fewest(native: NativeSampling, logits: np.ndarray, target: float, seed: int) -> None:
    logits = spread(logits, seed)
    weights = np.exp(logits.astype(np.float64) - logits.max())
    ours = native.reaching(logits, target)
    best = REFERENCE.largest(logits, len(ours))
    np.testing.assert_array_equal(ours, np.sort(best))
    mass = weights[best] / weights.sum()
    assert mass.sum() >= target - 1e-5
    assert mass[:-1].sum() <= target + 1e-5


@pytest.mark.parametrize("target", [0.3, 0.95, 0.9999999])
@pytest.mark.parametrize("spread_of_logits", [0.0, 0.01, 2.0, 60.0])
def test_reaching_far_into_a_long_row(native: NativeSampling, spread_of_logits: float, target: float) -> None:
    logits = np.random.default_rng(5).standard_normal(40_000).astype(np.float32) * np.float32(
        spread_of_logits
    )
    ours, theirs = native.reaching(logits, target), REFERENCE.reaching(logits, target)
    assert len(ours) == pytest.approx(len(theirs), rel=1e-3, abs=1)
    np.testing.assert_array_equal(ours, np.sort(REFERENCE.largest(logits, len(ours))))


@few
@given(rows, st.integers(0, 99))
def test_log_sum(native: NativeSampling, logits: np.ndarray, seed: int) -> None:
    logits = spread(logits, seed)
    assert native.log_sum(logits) == pytest.approx(REFERENCE.log_sum(logits), abs=2e-6)


@few
@given(rows, st.floats(0.1, 10), st.floats(0, 1, exclude_max=True), st.integers(0, 99))
def test_draw_inverts_the_running_sum(
    native: NativeSampling, logits: np.ndarray, temperature: float, uniform: float, seed: int
) -> None:
    logits = spread(logits, seed)
    weights = np.exp((logits.astype(np.float64) - logits.max()) / temperature)
    running = np.cumsum(weights) / weights.sum()
    drawn = native.draw(logits, temperature, uniform)
    assert weights[drawn] > 0
    before = running[drawn - 1] if drawn else 0.0
    assert before - 1e-5 <= uniform <= running[drawn] + 1e-5


@pytest.mark.parametrize("uniform", [0.0, 0.5, np.nextafter(1.0, 0.0)])
def test_a_draw_never_takes_what_has_no_weight(native: NativeSampling, uniform: float) -> None:
    logits = np.full(3000, -np.inf, np.float32)
    logits[[700, 1900]] = 5.0
    assert native.draw(logits, 0.8, uniform) in (700, 1900)


@few
@given(
    hnp.arrays(np.int32, st.integers(0, 60), elements=st.integers(0, 49)),
    hnp.arrays(np.int32, st.integers(0, 60), elements=st.integers(0, 49)),
    st.sampled_from([1.0, 1.3, 0.5]),
    st.sampled_from([0.0, 0.7, -0.4]),
    st.sampled_from([0.0, 0.2]),
)
def test_penalties(
    native: NativeSampling,
    prompt: np.ndarray,
    answer: np.ndarray,
    repetition: float,
    presence: float,
    frequency: float,
) -> None:
    for seed in range(2):  # the second finds nothing left behind by the first
        ours = np.random.default_rng(seed).standard_normal(50).astype(np.float32)
        theirs = ours.copy()
        native.penalise(ours, prompt, answer, repetition, presence, frequency)
        REFERENCE.penalise(theirs, prompt, answer, repetition, presence, frequency)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def test_what_does_not_fit_is_refused(native: NativeSampling) -> None:
    logits, none = np.zeros(4, np.float32), np.zeros(0, np.int32)
    for call in (
        lambda: native.best(np.zeros(0, np.float32)),
        lambda: native.best(np.zeros((2, 2), np.float32)),
        lambda: native.best(np.zeros(4)),
        lambda: native.largest(logits, 5),
        lambda: native.largest(logits, 0),
        lambda: native.draw(logits, 0.0, 0.5),
        lambda: native.draw(logits, 1.0, 1.0),
        lambda: native.penalise(logits, none, np.array([4], np.int32), 1.0, 1.0, 0.0),
        lambda: native.penalise(logits, np.array([-1], np.int32), none, 2.0, 0.0, 0.0),
    ):
        with pytest.raises(ValueError, match=r"."):
            call()
