"""What tensors are kept as in memory: the same numbers, in formats that the kernels have."""

from __future__ import annotations

import numpy as np
import pytest

from apportion.formats.block import CHUNK_NUMBERS, BlockFormat
from apportion.formats.blocks import FORMATS, load_as, load_format

OTHERS = [name for name, block_format in FORMATS.items() if not block_format.native]
KEPT = {
    "tq1_0": "q2_k",
    "tq2_0": "q2_k",
    "q1_0": "q4_0",
    "q2_0": "q4_0",
    "iq3_s": "q6_k",
    "q8_1": "q8_0",
    "nvfp4": "f16",
}


def random_rows(block_format: BlockFormat, rows: int, blocks: int) -> np.ndarray:
    """Random bits, but for scales that are finite."""
    rng = np.random.default_rng(block_format.ggml_type)
    data = rng.integers(0, 256, (rows * blocks, block_format.block_nbytes), dtype=np.uint8)
    if block_format.block_size == 1:
        return data.reshape(rows, -1)
    halves = rng.integers(0, 0x7C00, len(data)) | rng.integers(0, 2, len(data)) << 15
    scales = halves.astype("<u2").view(np.uint8).reshape(-1, 2)
    if block_format.name.startswith("tq"):
        data[:, -2:] = scales
    else:
        data[:, :2] = scales
    return data.reshape(rows, -1)


@pytest.mark.parametrize("name", list(FORMATS))
def test_the_kept_format_is_one_that_the_kernels_have(name: str) -> None:
    kept = load_format(FORMATS[name])
    assert kept.native
    assert kept.name == (name if FORMATS[name].native else KEPT.get(name, "f32"))


@pytest.mark.parametrize("name", OTHERS)
def test_not_one_number_changes(name: str) -> None:
    stored = FORMATS[name]
    load = load_as(stored)
    data = random_rows(stored, 5, CHUNK_NUMBERS // 4 // stored.block_size + 3)
    rows = load.rows(data)
    assert rows.shape == (5, load.kept.row_nbytes(stored.num_cols(data.shape[1])))
    assert np.array_equal(load.kept.dequantize(rows), stored.dequantize(data), equal_nan=True)


@pytest.mark.parametrize("name", ["iq3_s", "tq1_0", "tq2_0", "q1_0", "q2_0", "q8_1"])
@pytest.mark.parametrize("pattern", [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF])
def test_the_ends_of_the_scales_range_stay_exact(name: str, pattern: int) -> None:
    stored = FORMATS[name]
    data = random_rows(stored, 1, 40).reshape(40, -1)
    place = slice(-2, None) if name.startswith("tq") else slice(0, 2)
    data[:, place] = np.frombuffer(np.uint16(pattern).tobytes(), np.uint8)
    load = load_as(stored)
    assert np.array_equal(load.kept.dequantize(load.rows(data)), stored.dequantize(data))


def test_native_rows_are_not_copied() -> None:
    data = np.zeros((2, 36), np.uint8)
    load = load_as(FORMATS["q4_0"])
    assert load.rows(data) is data
    assert load.note == ""
    assert load.growth == 1


def test_stacks_keep_their_shape() -> None:
    data = random_rows(FORMATS["iq3_s"], 12, 2).reshape(3, 4, -1)
    assert load_as(FORMATS["iq3_s"]).rows(data).shape == (3, 4, 420)


def test_no_rows_yield_no_rows() -> None:
    assert load_as(FORMATS["iq2_s"]).rows(np.zeros((0, 164), np.uint8)).shape == (0, 2048)


def test_notes_say_what_it_costs() -> None:
    assert load_as(FORMATS["iq2_xxs"]).note == (
        "iq2_xxs is kept as f32 (the same numbers, 32 bits each): 15.5 times its size in the file"
    )
    assert "rounded to nearest" in load_as(FORMATS["f64"]).note
    assert load_as(FORMATS["nvfp4"]).growth == pytest.approx(16 / 4.5)


def test_integers_beyond_f32_are_rounded_to_nearest() -> None:
    numbers = np.array([[2**24 + 1, 2**53 + 3, -(2**62) - 1, 7]], "<i8")
    kept = load_as(FORMATS["i64"]).rows(numbers.view(np.uint8)).view("<f4")
    assert np.array_equal(kept, numbers.astype(np.float32))


def test_a_format_that_ggml_does_not_have_is_kept_as_f32() -> None:
    bytes_of_flags = BlockFormat("u8", -1, 1, 1, lambda blocks: blocks.astype(np.float32))
    kept = load_as(bytes_of_flags).rows(np.array([[0, 7, 255]], np.uint8))
    assert np.array_equal(kept.view("<f4"), [[0, 7, 255]])
