"""What comes over the wire, however it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.bench.load.exchange import Chunked, Counted, body_of, request_bytes
from apportion.bench.load.server import Address


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.lists(st.integers(1, 60)))
def test_chunks_give_the_same_body_however_they_are_cut(parts: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(b"%x;x=y\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    body, found, place = Chunked(), b"", 0
    for cut in [*cuts, len(wire)]:
        assert not body.ended or place >= len(wire) - 2  # the last line may come after its end
        found += body.feed(wire[place : place + cut])
        place += cut
    assert found == b"".join(parts)
    assert body.ended


@pytest.mark.parametrize("wire", [b"xyz\r\nabc\r\n", b"-5\r\n\r\n", b"ffffffffff\r\n"])
def test_what_is_no_chunk_is_refused(wire: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        Chunked().feed(wire)


def test_a_body_is_framed_as_its_head_says() -> None:
    assert isinstance(body_of({"transfer-encoding": "Chunked"}), Chunked)
    counted = body_of({"content-length": "5"})
    assert isinstance(counted, Counted)
    assert (counted.feed(b"abc"), counted.ended) == (b"abc", False)
    assert (counted.feed(b"de"), counted.ended) == (b"de", True)
    assert not body_of({}).ended
    assert body_of({"content-length": "0"}).ended


def test_a_request_names_its_host_its_length_and_its_key() -> None:
    wire = request_bytes(Address("::1", 80, "/base"), "POST", "/v1/x", b"{}", "secret").decode()
    assert wire.startswith("POST /base/v1/x HTTP/1.1\r\nHost: [::1]:80\r\n")
    assert "Authorization: Bearer secret\r\n" in wire
    assert wire.endswith("Content-Length: 2\r\n\r\n{}")
