"""Records: what is written is read, and whatever was changed is no record."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.core.errors import ApportionError, BadFile, Unsupported
from apportion.engine.prefix.keys import chain_keys
from apportion.engine.store.record import (
    HEADER_NBYTES,
    MAX_TOKENS,
    VERSION,
    Record,
    checksum,
    decode,
    record_nbytes,
)

PARENT = b"p" * 16


def record(ids: list[int], nbytes: int = 100, number: int = 7) -> Record:
    tokens = np.array(ids, np.int32)
    key = chain_keys(tokens, PARENT, len(ids))[0]
    return Record(number, 1.5e9, b"f" * 16, key, PARENT, 64, tokens, nbytes, checksum(b"payload"))


def fields(record: Record) -> tuple[object, ...]:
    return (
        record.number,
        record.written_s,
        record.fingerprint,
        record.key,
        record.parent,
        record.num_before,
        record.ids.tolist(),
        record.payload_nbytes,
        record.payload_sum,
        record.is_dead,
    )


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=64), st.integers(1, 1 << 30))
def test_what_is_encoded_is_decoded(ids: list[int], nbytes: int) -> None:
    made = record(ids, nbytes)
    for each in (made, made.dead(), made.renumbered(9)):
        header = each.encode()
        assert len(header) == HEADER_NBYTES
        assert fields(decode(header)) == fields(each)


def test_the_most_tokens_fit_into_a_header() -> None:
    assert len(decode(record(list(range(MAX_TOKENS))).encode()).ids) == MAX_TOKENS


@given(st.integers(0, HEADER_NBYTES * 8 - 1))
@settings(max_examples=300)
def test_no_flipped_bit_of_a_header_goes_unseen(bit: int) -> None:
    header = bytearray(record(list(range(32))).encode())
    header[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ApportionError) as caught:
        decode(bytes(header))
    assert isinstance(caught.value, BadFile | Unsupported)


def test_another_version_is_told_from_a_damaged_header() -> None:
    header = bytearray(record([1]).encode())
    struct.pack_into("<I", header, 8, VERSION + 1)
    with pytest.raises(Unsupported):
        decode(bytes(header))


@given(st.binary(max_size=HEADER_NBYTES))
def test_other_bytes_are_no_header(data: bytes) -> None:
    for header in (data, data.ljust(HEADER_NBYTES, b"\0")):
        with pytest.raises((BadFile, Unsupported)):
            decode(header)


def test_a_key_that_its_tokens_do_not_give_is_refused() -> None:
    made = record([1, 2, 3])
    forged = Record(1, 0.0, made.fingerprint, b"k" * 16, PARENT, 0, made.ids, 10, made.payload_sum)
    with pytest.raises(BadFile, match="key"):
        decode(forged.encode())


@pytest.mark.parametrize("nbytes", [0, 1 << 33])
def test_a_payload_of_no_or_of_too_many_bytes_is_refused(nbytes: int) -> None:
    with pytest.raises(BadFile):
        decode(record([1], nbytes).encode())


@pytest.mark.parametrize(("payload", "whole"), [(1, 8192), (4096, 8192), (4097, 12288)])
def test_a_record_is_whole_blocks(payload: int, whole: int) -> None:
    assert record_nbytes(payload) == whole
