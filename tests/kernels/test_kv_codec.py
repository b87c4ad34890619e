"""Head pages: what goes in comes out, near enough; sizes to the last scale; odd widths; damage that shows."""

from __future__ import annotations

import numpy as np
import pytest

from apportion.formats.block import Floats
from apportion.kernels.kv_codec import BLOCK_TOKENS, HeadLayout, KvCodec
from apportion.kernels.kv_codecs import CODECS

WIDTHS = (8, 17, 20, 64, 128, 130, 576)


@pytest.fixture(params=CODECS.names())
def codec(request: pytest.FixtureRequest) -> KvCodec:
    return CODECS.get(request.param)


def random(seed: int, *shape: int, scale: float = 1.0) -> Floats:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def round_trip(codec: KvCodec, x: Floats) -> Floats:
    return codec.decode_rows(*codec.encode_rows(x), x.shape[1])


def error_bound(codec: KvCodec, x: Floats) -> Floats:
    """The most that a number of each row may be off, [n, 1]."""
    largest = np.abs(x).max(axis=1, keepdims=True)
    span = x.max(axis=1, keepdims=True) - x.min(axis=1, keepdims=True)
    half = largest * np.float32(2**-11) + np.float32(2**-24)
    name = {"Q4Smooth": "Q4"}.get(type(codec).__name__, type(codec).__name__)
    # Half a step, and what rounding scale and offset moves the outermost code by.
    return {
        "F32": np.zeros_like(largest),
        "F16": half,
        "Bf16": largest * np.float32(2**-8),
        "Q8": largest / 254 * np.float32(1.01) + 128 * half,
        "Q4": span / 30 * np.float32(1.01) + 17 * half,
    }[name] + np.float32(1e-30)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scale", [1e-4, 1.0, 300.0])
def test_a_row_comes_back_within_half_a_step(codec: KvCodec, width: int, scale: float) -> None:
    x = random(width, 40, width, scale=scale) + np.float32(scale)
    assert (np.abs(round_trip(codec, x) - x) <= error_bound(codec, x)).all()


def test_encoding_what_was_decoded_changes_little(codec: KvCodec) -> None:
    x = random(1, 50, 64)
    once = round_trip(codec, x)
    assert (np.abs(round_trip(codec, once) - once) <= error_bound(codec, once)).all()


def test_zeros_and_equal_numbers_come_back(codec: KvCodec) -> None:
    rows = np.repeat(np.array([[0], [1], [-3.5], [2.0**-20]], np.float32), 24, axis=1)
    if type(codec).__name__ == "Q8":  # 1 is 127 scales, which are rounded
        np.testing.assert_allclose(round_trip(codec, rows), rows, rtol=1e-3, atol=2.0**-20)
    else:
        np.testing.assert_array_equal(round_trip(codec, rows), rows)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_shows_and_stays_in_its_row(codec: KvCodec, bad: float) -> None:
    x = random(2, 3, 20)
    x[1, 7] = bad
    back = round_trip(codec, x)
    assert np.isfinite(back[[0, 2]]).all()
    assert not np.isfinite(back[1, 7])


def test_numbers_beyond_half_precision_never_come_back_as_others(codec: KvCodec) -> None:
    x = random(3, 2, 16)
    x[0] *= np.float32(1e30)
    back = round_trip(codec, x)
    far = ~np.isfinite(back[0]) | (np.abs(back[0] - x[0]) <= np.abs(x[0]) / 100)
    assert far.all()
    assert np.isfinite(back[1]).all()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_has_the_bytes_that_its_rows_and_scales_take(codec: KvCodec, width: int) -> None:
    codes, scales = codec.encode_rows(random(4, BLOCK_TOKENS, width))
    assert codes.dtype == np.uint8
    assert codes.shape == (BLOCK_TOKENS, codec.row_nbytes(width))
    assert scales.shape == (codec.num_scales, BLOCK_TOKENS)
    assert scales.dtype == np.float16
    assert HeadLayout(codec, width, width).nbytes == 2 * (codes.nbytes + scales.nbytes)
    assert HeadLayout(codec, width, width - 1, joint=True).nbytes == codes.nbytes + scales.nbytes


def test_bytes_per_position_are_those_of_the_documentation() -> None:
    def of(name: str, width: int) -> float:
        return HeadLayout(CODECS.get(name), width, width).nbytes / BLOCK_TOKENS

    assert [of(name, 64) for name in ("f32", "f16", "bf16", "q8", "q4")] == [512, 256, 256, 132, 72]
    assert [of(name, 128) for name in ("f32", "f16", "bf16", "q8", "q4")] == [1024, 512, 512, 260, 136]


def test_rows_of_a_page_are_written_one_by_one_or_together(codec: KvCodec) -> None:
    layout = HeadLayout(codec, 20, 12)
    keys, values = random(5, BLOCK_TOKENS, 20), random(6, BLOCK_TOKENS, 12)
    together, singly = (np.zeros(layout.nbytes, np.uint8) for _ in range(2))
    layout.encode(together, 0, keys, values)
    for place in range(BLOCK_TOKENS):
        layout.encode(singly, place, keys[place : place + 1], values[place : place + 1])
    np.testing.assert_array_equal(together, singly)
    back = layout.decode(together)
    assert (np.abs(back[0] - keys) <= error_bound(codec, keys)).all()
    assert (np.abs(back[1] - values) <= error_bound(codec, values)).all()


def test_joint_values_are_the_first_numbers_of_the_keys(codec: KvCodec) -> None:
    layout = HeadLayout(codec, 40, 32, joint=True)
    page = np.zeros(layout.nbytes, np.uint8)
    layout.encode(page, 3, random(7, 5, 40), None)
    keys, values = layout.decode(page, 8)
    np.testing.assert_array_equal(values, keys[:, :32])
    assert keys.shape == (8, 40)


def test_nibbles_lie_so_that_eight_bytes_give_two_runs_of_eight() -> None:
    codes, scales = CODECS.get("q4").encode_rows(np.arange(16, dtype=np.float32)[None])
    np.testing.assert_array_equal(codes[0], [i | (i + 8) << 4 for i in range(8)])
    np.testing.assert_array_equal(scales[:, 0], [1, 0])
