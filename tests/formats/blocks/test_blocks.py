"""What holds for every block format: decoding against an independent reader, sizes, shapes, refusals."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.core.errors import LimitExceeded, NotFinite
from apportion.formats.block import CHUNK_NUMBERS, BlockFormat
from apportion.formats.blocks import FORMATS

# The gguf package of today cannot decode these; their own tests state them number by number.
WITHOUT_ORACLE = {"f64", "i8", "i16", "i32", "i64", "q8_1", "q8_k", "q1_0", "q2_0"}
ALL = sorted(FORMATS)
WRITABLE = [name for name in ALL if FORMATS[name].encode]
CODED = [name for name in WRITABLE if FORMATS[name].block_size > 1]
# f16 bit patterns that try a scale: zeros, subnormals, the ends of the range, infinities, NaN.
HARD_HALVES = (0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x3C00, 0xBC00, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E01)


def random_rows(block_format: BlockFormat, rows: int, blocks: int, seed: int = 0) -> np.ndarray:
    nbytes = blocks * block_format.block_nbytes
    return np.random.default_rng(seed).integers(0, 256, (rows, nbytes), dtype=np.uint8)


def reference(block_format: BlockFormat, data: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return dequantize(data, gguf.GGMLQuantizationType(block_format.ggml_type))


@pytest.mark.parametrize("name", [name for name in ALL if name not in WITHOUT_ORACLE])
class TestAgainstTheGgufPackage:
    def test_random_bits_decode_to_the_same_numbers(self, name: str) -> None:
        data = random_rows(FORMATS[name], 60, 16)
        decoded = FORMATS[name].dequantize(data)
        assert decoded.dtype == np.float32
        assert np.array_equal(decoded, reference(FORMATS[name], data), equal_nan=True)

    def test_every_byte_of_a_block_takes_every_value(self, name: str) -> None:
        block_format = FORMATS[name]
        data = random_rows(block_format, 256 * block_format.block_nbytes, 1, seed=1)
        for place in range(block_format.block_nbytes):
            data[place * 256 : (place + 1) * 256, place] = np.arange(256)
        assert np.array_equal(block_format.dequantize(data), reference(block_format, data), equal_nan=True)

    def test_hard_scales_decode_to_the_same_numbers(self, name: str) -> None:
        block_format = FORMATS[name]
        for pattern in HARD_HALVES:
            data = random_rows(block_format, 4, 8, seed=pattern).reshape(-1, block_format.block_nbytes)
            data[:, :2] = data[:, -2:] = np.frombuffer(np.uint16(pattern).tobytes(), np.uint8)
            expected = reference(block_format, data)
            assert np.array_equal(block_format.dequantize(data), expected, equal_nan=True)


def test_the_table_holds_every_type_of_the_gguf_package() -> None:
    known = {int(kind): kind.name.lower() for kind in gguf.GGMLQuantizationType}
    ours = {block_format.ggml_type: name for name, block_format in FORMATS.items()}
    assert known.items() <= ours.items()
    assert ours.keys() - known.keys() <= {42}  # q2_0 is newer than the package


@pytest.mark.parametrize("name", ALL)
def test_blocks_are_as_large_as_ggml_says(name: str) -> None:
    block_format = FORMATS[name]
    if name == "q8_1":
        expected = (32, 36)  # the package has the size of 2023, when its scale and sum were f32
    elif name == "q2_0":
        expected = (64, 18)
    else:
        expected = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(block_format.ggml_type)]
    assert (block_format.block_size, block_format.block_nbytes) == expected
    assert block_format.bits_per_weight == 8 * expected[1] / expected[0]
    assert block_format.row_nbytes(6 * expected[0]) == 6 * expected[1]
    assert block_format.num_cols(6 * expected[1]) == 6 * expected[0]


@pytest.mark.parametrize("name", ALL)
def test_chunks_are_seamless(name: str) -> None:
    block_format = FORMATS[name]
    blocks = CHUNK_NUMBERS // block_format.block_size + 3
    data = random_rows(block_format, 3, blocks)
    whole = block_format.dequantize(data)
    ends = block_format.dequantize(data.reshape(-1, block_format.block_nbytes)[-5:])
    assert np.array_equal(whole[-1, -5 * block_format.block_size :], ends.ravel(), equal_nan=True)
    rows = np.concatenate([block_format.dequantize(row[None]) for row in data])
    assert np.array_equal(whole, rows, equal_nan=True)


@pytest.mark.parametrize("name", ALL)
def test_decoding_into_halves_rounds_the_same_numbers(name: str) -> None:
    data = random_rows(FORMATS[name], 3, 4)
    expected = FORMATS[name].dequantize(data)
    out = np.empty(expected.shape, np.float16)
    FORMATS[name].dequantize_into(data, out)
    with np.errstate(all="ignore"):
        assert np.array_equal(out, expected.astype(np.float16), equal_nan=True)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(WRITABLE),
    leading=st.lists(st.integers(0, 5), min_size=0, max_size=3),
    blocks=st.integers(1, 7),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_shape_survives_a_round_trip(name: str, leading: list[int], blocks: int, seed: int) -> None:
    block_format = FORMATS[name]
    cols = blocks * block_format.block_size
    values = np.random.default_rng(seed).standard_normal((*leading, cols)).astype(np.float32)
    data = block_format.quantize(values)
    assert data.shape == (*leading, block_format.row_nbytes(cols))
    assert data.dtype == np.uint8
    decoded = block_format.dequantize(data)
    assert decoded.shape == values.shape
    single = block_format.quantize(values.reshape(-1, block_format.block_size))
    assert np.array_equal(single.ravel(), data.ravel())


@pytest.mark.parametrize("name", CODED)
def test_decoded_numbers_encode_to_the_same_numbers_once_more(name: str) -> None:
    """A second round trip loses at most what choosing the scale anew costs."""
    values = np.random.default_rng(5).standard_normal((4, 1024)).astype(np.float32)
    once = FORMATS[name].dequantize(FORMATS[name].quantize(values))
    twice = FORMATS[name].dequantize(FORMATS[name].quantize(once))
    assert np.square(twice - once).mean() <= 0.3 * np.square(once - values).mean()


@pytest.mark.parametrize("name", CODED)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(name: str, bad: float) -> None:
    values = np.ones((2, 256), np.float32)
    values[1, 40] = bad
    with pytest.raises(NotFinite, match=name):
        FORMATS[name].quantize(values)


@pytest.mark.parametrize("name", [name for name in CODED if name not in ("q8_k", "mxfp4")])
def test_a_number_that_the_scale_cannot_hold_is_refused(name: str) -> None:
    values = np.ones((2, 256), np.float32)
    values[1, 40] = -3e37
    with pytest.raises(LimitExceeded, match=name):
        FORMATS[name].quantize(values)


@pytest.mark.parametrize("name", WRITABLE)
def test_zeros_stay_zeros(name: str) -> None:
    decoded = FORMATS[name].dequantize(FORMATS[name].quantize(np.zeros((2, 256), np.float32)))
    assert not decoded.any()


@pytest.mark.parametrize("name", CODED)
def test_the_tiniest_numbers_stay_finite_and_tiny(name: str) -> None:
    values = np.full((1, 256), 1e-42, np.float32)
    values[0, ::2] *= -1
    decoded = FORMATS[name].dequantize(FORMATS[name].quantize(values))
    assert np.abs(decoded).max() <= 1e-37
