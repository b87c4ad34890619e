"""Files that were changed behind the store's back: what was changed is a miss, and nothing else is.

Set APPORTION_LONG_TESTS to a number to have that many times as many flipped bits.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from tests.engine.store.house import (
    BLOCK_NBYTES,
    FOLDER,
    RECORD_NBYTES,
    Block,
    chain,
    config,
    fill,
    get,
    num_found,
    put,
    store,
)

from apportion.core.virtual_disk import VirtualDisk
from apportion.engine.prefix.keys import fingerprint
from apportion.engine.store.folder import ACCOUNT, SegmentName
from apportion.engine.store.record import HEADER_NBYTES

BLOCKS = chain(1, 16)  # in segments of eight
SEGMENT = FOLDER / str(SegmentName(1))
FLIPS = 25 * (1 + int(os.environ.get("APPORTION_LONG_TESTS", "0")))
# Where in a record a bit flips, and whether the record is then lost.
PLACES = {
    "fields": (0, 120, True),
    "checksum": (112, 128, True),
    "tokens": (128, 160, True),
    "rest of the header": (160, HEADER_NBYTES, True),
    "payload": (HEADER_NBYTES, HEADER_NBYTES + BLOCK_NBYTES, True),
    "filling": (HEADER_NBYTES + BLOCK_NBYTES, RECORD_NBYTES, False),
}


def written() -> VirtualDisk:
    disk = VirtualDisk()
    fill(disk, BLOCKS, config())
    return disk


def content(disk: VirtualDisk, path: Path) -> bytearray:
    return bytearray(disk.open(path).pread(1 << 30, 0))


def rewrite(disk: VirtualDisk, path: Path, data: bytes) -> None:
    with disk.open(path, "create") as file:
        file.pwrite(data, 0)


def others_are_found(disk: VirtualDisk, lost: list[Block]) -> None:
    """And the lost ones can be put again, and are then there."""
    with store(disk, config()) as kept:
        for _ in range(2):
            assert [block for block in BLOCKS if not get(kept, block)] == lost
        assert kept.counters.corrupt + kept.counters.damaged_stretches >= (1 if lost else 0)
        for block in lost:
            assert put(kept, block)
    assert num_found(disk, BLOCKS, config()) == len(BLOCKS)


@pytest.mark.parametrize("place", PLACES)
def test_a_flipped_bit_costs_the_block_that_it_is_in(place: str) -> None:
    first, end, is_lost = PLACES[place]
    rng = random.Random(place)
    for _ in range(FLIPS):
        disk, number = written(), rng.randrange(8)
        disk.flip_bit(SEGMENT, number * RECORD_NBYTES + rng.randrange(first, end), rng.randrange(8))
        others_are_found(disk, [BLOCKS[number]] if is_lost else [])


def test_a_bit_that_flips_while_the_store_is_open_costs_the_block_that_it_is_in() -> None:
    disk = written()
    with store(disk, config()) as kept:
        disk.flip_bit(SEGMENT, 3 * RECORD_NBYTES + HEADER_NBYTES + 77)
        assert [get(kept, block) for block in BLOCKS].count(False) == 1
        assert not kept.contains(BLOCKS[3].key)
        assert kept.counters.corrupt == 1
    with store(disk, config()) as kept:
        assert not kept.contains(BLOCKS[3].key), "it is not found damaged again"


@pytest.mark.parametrize("seed", range(10))
def test_a_segment_that_was_cut_short_costs_what_was_cut_off(seed: int) -> None:
    disk, size = written(), random.Random(seed).randrange(8 * RECORD_NBYTES)
    rewrite(disk, SEGMENT, content(disk, SEGMENT)[:size])
    others_are_found(disk, BLOCKS[size // RECORD_NBYTES : 8])


@pytest.mark.parametrize(
    "tail", [b"x", bytes(4096), bytes(100_000), random.Random(0).randbytes(9000), b"APKVREC\n" * 2000]
)
def test_what_was_added_to_a_segment_costs_nothing(tail: bytes) -> None:
    disk = written()
    rewrite(disk, SEGMENT, content(disk, SEGMENT) + tail)
    others_are_found(disk, [])


def test_a_segment_cut_short_while_the_store_is_open_is_a_miss() -> None:
    disk = written()
    with store(disk, config()) as kept:
        short = content(disk, SEGMENT)[: 2 * RECORD_NBYTES]
        disk.open(SEGMENT, "write")
        rewrite(disk, SEGMENT, short)
        assert [get(kept, block) for block in BLOCKS[:8]] == [True] * 2 + [False] * 6


def test_a_segment_that_is_removed_while_the_store_is_open_is_a_miss() -> None:
    disk = written()
    with store(disk, config()) as kept:
        disk.remove(SEGMENT)
        assert [get(kept, block) for block in BLOCKS] == [False] * 8 + [True] * 8
        assert put(kept, BLOCKS[0])
        kept.flush()
        assert get(kept, BLOCKS[0])


def test_swapped_payloads_are_two_misses() -> None:
    disk = written()
    data = content(disk, SEGMENT)
    one, other = HEADER_NBYTES, RECORD_NBYTES + HEADER_NBYTES
    first, second = data[one : one + BLOCK_NBYTES], data[other : other + BLOCK_NBYTES]
    data[one : one + BLOCK_NBYTES], data[other : other + BLOCK_NBYTES] = second, first
    rewrite(disk, SEGMENT, data)
    others_are_found(disk, BLOCKS[:2])


def test_swapped_headers_are_two_misses() -> None:
    disk = written()
    data = content(disk, SEGMENT)
    data[:HEADER_NBYTES], data[RECORD_NBYTES : RECORD_NBYTES + HEADER_NBYTES] = (
        data[RECORD_NBYTES : RECORD_NBYTES + HEADER_NBYTES],
        data[:HEADER_NBYTES],
    )
    rewrite(disk, SEGMENT, data)
    others_are_found(disk, BLOCKS[:2])


def test_whole_records_that_changed_places_are_all_found() -> None:
    disk = written()
    data = content(disk, SEGMENT)
    rewrite(disk, SEGMENT, data[RECORD_NBYTES:] + data[:RECORD_NBYTES])
    others_are_found(disk, [])


def test_a_record_that_is_there_twice_counts_once() -> None:
    disk = written()
    rewrite(disk, SEGMENT, content(disk, SEGMENT) + content(disk, SEGMENT)[:RECORD_NBYTES])
    others_are_found(disk, [])


@pytest.mark.parametrize("changed", ["model", "tokenizer", "layout", "lineage"])
def test_a_segment_from_another_store_is_not_used(changed: str) -> None:
    parts = {"model": "model", "tokenizer": "tokenizer", "layout": "f16", "lineage": "exact"}
    parts[changed] += "2"
    foreign = VirtualDisk()
    fill(foreign, BLOCKS, config(fingerprint=fingerprint(*parts.values())))
    disk = VirtualDisk()
    fill(disk, BLOCKS[8:], config())
    rewrite(disk, FOLDER / str(SegmentName(7)), content(foreign, SEGMENT))
    with store(disk, config()) as kept:
        assert [get(kept, block) for block in BLOCKS] == [False] * 8 + [True] * 8
        assert kept.counters.foreign == 8


def test_an_empty_segment_and_one_of_zeros_are_lived_with() -> None:
    disk = written()
    rewrite(disk, FOLDER / str(SegmentName(8)), b"")
    rewrite(disk, FOLDER / str(SegmentName(9, is_sealed=False)), bytes(50_000))
    rewrite(disk, FOLDER / str(SegmentName(10, is_sealed=False)), b"")
    others_are_found(disk, [])


@pytest.mark.parametrize("data", [b"", b"x" * 64, b"1 2 3\n", b"\xff" * 64])
def test_a_damaged_account_of_writes_counts_as_used_up(data: bytes) -> None:
    disk = VirtualDisk()
    rewrite(disk, FOLDER / ACCOUNT, data)
    with store(disk, config(writes_per_day_nbytes=10**9)) as kept:
        assert put(kept, BLOCKS[0])
        kept.flush()
        assert not put(kept, BLOCKS[1])
        assert kept.counters.refused_wear == 1
        assert not get(kept, BLOCKS[0])
