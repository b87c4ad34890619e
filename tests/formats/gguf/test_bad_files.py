"""Every way in which a GGUF file can be bad that we know of: an error of ours, at once, without memory."""

from __future__ import annotations

import os
import random
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.formats.raw_gguf import (
    ARRAY,
    BOOL,
    F32,
    Q4_0,
    STRING,
    TYPE_F32,
    U32,
    RawGguf,
    array,
    entry,
    pair,
    text,
    valid,
)

from apportion.core.errors import ApportionError, BadFile, LimitExceeded, Truncated, Unsupported
from apportion.formats.gguf import open_gguf

Change = Callable[[RawGguf, random.Random], None]
SEEDS = range(8)
ERRORS: dict[str, type[ApportionError]] = {}
CHANGES: dict[str, Change] = {}


def kind(error: type[ApportionError]) -> Callable[[Change], Change]:
    """Register one way of being bad with the error that it must meet."""

    def register(change: Change) -> Change:
        CHANGES[change.__name__], ERRORS[change.__name__] = change, error
        return change

    return register


@kind(BadFile)
def magic_is_wrong(raw: RawGguf, rng: random.Random) -> None:
    raw.magic = rng.choice([b"GGML", b"gguf", b"FUGG", b"\0\0\0\0", b"PK\3\4"])


@kind(Unsupported)
def version_is_1(raw: RawGguf, rng: random.Random) -> None:
    raw.version = 1


@kind(Unsupported)
def version_is_newer(raw: RawGguf, rng: random.Random) -> None:
    raw.version = rng.choice([4, 5, 255, 0x7FFFFFFF])


@kind(Unsupported)
def version_is_0(raw: RawGguf, rng: random.Random) -> None:
    raw.version = 0


@kind(Unsupported)
def byte_order_is_big_endian(raw: RawGguf, rng: random.Random) -> None:
    raw.version = rng.choice([0x02000000, 0x03000000])


@kind(Truncated)
def file_ends_inside_the_fixed_part(raw: RawGguf, rng: random.Random) -> None:
    raw.cut = rng.randint(0, 23)


@kind(Truncated)
def file_ends_inside_the_metadata(raw: RawGguf, rng: random.Random) -> None:
    raw.entries, raw.data = [], b""
    raw.cut = rng.randint(25, len(raw.build()) - 1)


@kind(Truncated)
def file_ends_inside_the_tensor_table(raw: RawGguf, rng: random.Random) -> None:
    start = len(RawGguf(pairs=raw.pairs).build())
    raw.cut = rng.randint(start, start + sum(map(len, raw.entries)) - 1)


@kind(Truncated)
def header_promises_data_that_is_not_there(raw: RawGguf, rng: random.Random) -> None:
    raw.data = raw.data[: rng.randrange(len(raw.data))]


@kind(Truncated)
def tensor_count_is_huge(raw: RawGguf, rng: random.Random) -> None:
    raw.num_entries = rng.choice([1 << 20, 1 << 32, 1 << 63, (1 << 64) - 1])


@kind(Truncated)
def pair_count_is_huge(raw: RawGguf, rng: random.Random) -> None:
    raw.num_pairs = rng.choice([1 << 20, 1 << 32, 1 << 63, (1 << 64) - 1])


@kind(Truncated)
def counts_wrap_together(raw: RawGguf, rng: random.Random) -> None:
    raw.num_pairs, raw.num_entries = 1 << 63, 1 << 63


@kind(Truncated)
def key_is_longer_than_the_file(raw: RawGguf, rng: random.Random) -> None:
    raw.pairs.insert(0, struct.pack("<Q", rng.choice([1 << 14, 1 << 31, (1 << 64) - 1])))


@kind(LimitExceeded)
def key_is_too_long(raw: RawGguf, rng: random.Random) -> None:
    raw.pairs.append(pair("k" * 65_536, U32, bytes(4)))


@kind(BadFile)
def key_is_empty(raw: RawGguf, rng: random.Random) -> None:
    raw.pairs.insert(rng.randint(0, len(raw.pairs)), pair("", U32, bytes(4)))


@kind(BadFile)
def key_is_not_utf8(raw: RawGguf, rng: random.Random) -> None:
    raw.pairs.append(pair(rng.choice([b"a\xff", b"\xc3", b"\xed\xa0\x80", b"\xf8abc"]), U32, bytes(4)))


@kind(BadFile)
def key_has_control_characters(raw: RawGguf, rng: random.Random) -> None:
    raw.pairs.append(pair(rng.choice(["a\0b", "\x1b[2J", "a\nb", "a\u202eb"]), U32, bytes(4)))


@kind(BadFile)
def key_stands_twice(raw: RawGguf, rng: random.Random) -> None:
    raw.pairs.insert(rng.randint(0, len(raw.pairs)), rng.choice(raw.pairs))


@kind(BadFile)
def value_type_is_unknown(raw: RawGguf, rng: random.Random) -> None:
    raw.pairs.append(pair("some.key", rng.choice([13, 14, 255, 0xFFFFFFFF]), bytes(16)))


@kind(BadFile)
def element_type_is_unknown(raw: RawGguf, rng: random.Random) -> None:
    raw.pairs.append(pair("some.key", ARRAY, array(rng.choice([13, 99, 0xFFFFFFFF]), 1, bytes(16))))


@kind(BadFile)
def flag_is_neither_true_nor_false(raw: RawGguf, rng: random.Random) -> None:
    value = bytes([rng.randint(2, 255)])
    payloads = [pair("some.flag", BOOL, value), pair("some.flag", ARRAY, array(BOOL, 2, b"\0" + value))]
    raw.pairs.append(rng.choice(payloads))


@kind(BadFile)
def string_is_not_utf8(raw: RawGguf, rng: random.Random) -> None:
    bad = text(rng.choice([b"\xff", b"ok\xc3", b"\xed\xa0\x80"]))
    payloads = [pair("s", STRING, bad), pair("s", ARRAY, array(STRING, 2, text("ok") + bad))]
    raw.pairs.append(rng.choice(payloads))


@kind(Truncated)
def string_is_longer_than_the_file(raw: RawGguf, rng: random.Random) -> None:
    length = struct.pack("<Q", rng.choice([1 << 16, 1 << 40, (1 << 64) - 1, (1 << 64) - 8]))
    payloads = [pair("s", STRING, length), pair("s", ARRAY, array(STRING, 2, text("ok") + length))]
    raw.pairs.append(rng.choice(payloads))


@kind(Truncated)
def array_is_longer_than_the_file(raw: RawGguf, rng: random.Random) -> None:
    count = rng.choice([1 << 16, 1 << 32, 1 << 61, 1 << 63, (1 << 64) - 1])
    raw.pairs.append(pair("a", ARRAY, array(rng.choice([0, 1, U32, F32, STRING, ARRAY, 10, 12]), count)))


@kind(Truncated)
def whole_file_is_43_bytes_with_an_array_of_2_to_the_63(raw: RawGguf, rng: random.Random) -> None:
    raw.entries, raw.data = [], b""
    raw.pairs = [pair("x" * rng.randint(1, 7), ARRAY, array(rng.choice([0, 7, STRING, ARRAY]), 1 << 63))]


@kind(BadFile)
def arrays_lie_ten_thousand_deep(raw: RawGguf, rng: random.Random) -> None:
    raw.pairs.append(pair("deep", ARRAY, array(ARRAY, 1) * rng.randint(9, 10_000) + array(U32, 0)))


@kind(BadFile)
def alignment_is_no_power_of_two(raw: RawGguf, rng: random.Random) -> None:
    value = rng.choice([0, 3, 24, 33, 1000])
    raw.pairs.append(pair("general.alignment", U32, struct.pack("<I", value)))


@kind(BadFile)
def alignment_is_huge(raw: RawGguf, rng: random.Random) -> None:
    value = rng.choice([1 << 22, 1 << 31])
    raw.pairs.append(pair("general.alignment", U32, struct.pack("<I", value)))


@kind(BadFile)
def alignment_has_the_wrong_type(raw: RawGguf, rng: random.Random) -> None:
    values = [(10, struct.pack("<Q", 32)), (F32, struct.pack("<f", 32)), (STRING, text("32"))]
    raw.pairs.append(pair("general.alignment", *rng.choice(values)))


@kind(BadFile)
def tensor_has_no_dimensions(raw: RawGguf, rng: random.Random) -> None:
    raw.entries[-1] = entry("last", ())


@kind(BadFile)
def tensor_has_too_many_dimensions(raw: RawGguf, rng: random.Random) -> None:
    raw.entries[-1] = entry("last", (1,) * 5, num_dims=rng.choice([5, 6, 1 << 31, (1 << 32) - 1]))


@kind(BadFile)
def tensor_has_no_elements(raw: RawGguf, rng: random.Random) -> None:
    raw.entries[-1] = entry("last", rng.choice([(0,), (8, 0), (0, 8), (0, 1 << 63)]))


@kind(Truncated)
def product_of_dimensions_wraps(raw: RawGguf, rng: random.Random) -> None:
    dims = rng.choice([(1 << 32, 1 << 32), (1 << 63, 2), (1 << 62, 4, 1, 1), (1 << 16,) * 4, (3 << 62, 4)])
    raw.entries[-1] = entry("last", dims)


@kind(BadFile)
def rows_are_no_whole_blocks(raw: RawGguf, rng: random.Random) -> None:
    raw.entries[-1] = entry("last", (rng.choice([1, 31, 33]), 32), Q4_0)


@kind(Unsupported)
def block_format_is_unknown(raw: RawGguf, rng: random.Random) -> None:
    raw.entries[-1] = entry("last", (8,), rng.choice([4, 5, 31, 36, 999, (1 << 31), (1 << 32) - 1]))


@kind(BadFile)
def tensor_name_stands_twice(raw: RawGguf, rng: random.Random) -> None:
    raw.entries.append(raw.entries[0])


@kind(BadFile)
def tensor_name_is_not_utf8(raw: RawGguf, rng: random.Random) -> None:
    raw.entries[-1] = entry(rng.choice([b"\xff", b"w\xc3", b"\xed\xa0\x80"]), (8,))


@kind(BadFile)
def tensor_name_looks_like_a_path(raw: RawGguf, rng: random.Random) -> None:
    name = rng.choice(["../weight", "/etc/passwd", "a/../../b", "..\\b", ".."])
    raw.entries[-1] = entry(name, (8,))


@kind(BadFile)
def tensor_name_has_control_characters(raw: RawGguf, rng: random.Random) -> None:
    raw.entries[-1] = entry(rng.choice(["w\0", "\x1b]0;x\x07", "", "a\rb"]), (8,))


@kind(LimitExceeded)
def tensor_name_is_ten_megabytes(raw: RawGguf, rng: random.Random) -> None:
    raw.entries[-1] = entry(b"n" * rng.choice([1025, 100_000, 10 << 20]), (8,))


@kind(BadFile)
def tensor_offset_is_misaligned(raw: RawGguf, rng: random.Random) -> None:
    raw.entries[-1] = entry("last", (8,), TYPE_F32, rng.choice([1, 4, 16, 31]))


@kind(Truncated)
def tensor_reaches_past_the_end(raw: RawGguf, rng: random.Random) -> None:
    offset = rng.choice([len(raw.data), 1 << 40, 1 << 63, (1 << 64) - 32])
    raw.entries[-1] = entry("last", (8,), TYPE_F32, offset // 32 * 32)


@kind(BadFile)
def tensors_overlap(raw: RawGguf, rng: random.Random) -> None:
    raw.entries[-1] = entry("last", (rng.choice([1, 8]),), TYPE_F32, 0)


def open_bad(path: Path, error: type[ApportionError]) -> ApportionError:
    """Open a bad file and check all that must hold of the failure."""
    open_files = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    size = path.stat().st_size
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(error) as failure:
            open_gguf(path)
        taken = time.process_time() - start
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken < 1, taken
    assert peak < (2 << 20) + 4 * size, peak
    if open_files:
        assert len(os.listdir("/proc/self/fd")) <= open_files  # others may be collected meanwhile
    assert path.name in str(failure.value), str(failure.value)
    return failure.value


@pytest.mark.parametrize("name", CHANGES)
def test_bad_file_is_refused(name: str, tmp_path: Path) -> None:
    for seed in SEEDS:
        rng = random.Random(f"{name} {seed}")
        raw = valid(rng)
        raw.write(tmp_path)
        CHANGES[name](raw, rng)
        error = open_bad(raw.write(tmp_path), ERRORS[name])
        assert not isinstance(error, Truncated) or ERRORS[name] is Truncated, error


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_file_without_the_change_is_read(seed: int, tmp_path: Path) -> None:
    raw = valid(random.Random(seed))
    with open_gguf(raw.write(tmp_path)) as checkpoint:
        assert len(checkpoint.tensors) == len(raw.entries)
        assert len(checkpoint.metadata) == len(raw.pairs)


def test_there_are_forty_kinds() -> None:
    assert len(CHANGES) >= 40


def test_a_string_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    raw = RawGguf(pairs=[pair("s", STRING, struct.pack("<Q", (64 << 20) + 1))])
    path = raw.write(tmp_path)
    os.truncate(path, 80 << 20)  # a hole: the bytes are there and take no room
    open_bad(path, LimitExceeded)


def test_a_header_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    raw = RawGguf(pairs=[pair("a", ARRAY, array(0, 300 << 20))])
    path = raw.write(tmp_path)
    os.truncate(path, 400 << 20)
    open_bad(path, LimitExceeded)


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.gguf")
    with pytest.raises(BadFile, match="not a file"):
        open_gguf(tmp_path / "model.gguf")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="not a file"):
        open_gguf(tmp_path)
