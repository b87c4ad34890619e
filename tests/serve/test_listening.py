"""Addresses to listen at, and how much the system allows."""

from __future__ import annotations

import resource
import socket

import pytest

from apportion.core.errors import InUse, UsageError
from apportion.serve import listening
from apportion.serve.listening import affordable, listen, url_of


def test_any_port_will_do_and_is_told() -> None:
    [one] = listen("127.0.0.1", 0)
    with one:
        port = one.getsockname()[1]
        assert url_of([one]) == f"http://127.0.0.1:{port}"
        assert socket.create_connection(("127.0.0.1", port), 5).close() is None


def test_what_is_written_goes_out_at_once() -> None:
    [one] = listen("127.0.0.1", 0)
    with one:
        assert one.proto == socket.IPPROTO_TCP, "asyncio turns off Nagle's delays only where it sees this"


def test_a_port_that_is_taken_is_said_to_be() -> None:
    [one] = listen("127.0.0.1", 0)
    with one, pytest.raises(InUse) as caught:
        listen("127.0.0.1", one.getsockname()[1])
    assert "--port" in caught.value.hint


@pytest.mark.parametrize("host", ["256.0.0.1", "no.such.host.invalid", "x" * 300, "a b", "\0", "::g"])
def test_what_is_no_address_is_refused(host: str) -> None:
    with pytest.raises(UsageError):
        listen(host, 0)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        listen("192.0.2.1", 0)
    assert "192.0.2.1" in str(caught.value)


def test_a_user_who_may_not_is_told_so() -> None:
    error = listening.explained(PermissionError(13, "Permission denied"), "127.0.0.1", 80)
    assert "1024" in error.hint


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="needs IPv6 on this machine")
@pytest.mark.parametrize("host", ["::1", "::", "localhost"])
def test_ipv6_is_listened_at(host: str) -> None:
    sockets = listen(host, 0)
    try:
        port = sockets[0].getsockname()[1]
        socket.create_connection(("::1" if host != "localhost" else "localhost", port), 5).close()
        if host == "::":
            socket.create_connection(("127.0.0.1", port), 5).close()
        assert len({one.getsockname()[1] for one in sockets}) == 1
    finally:
        for one in sockets:
            one.close()


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "expected"),
    [
        (1024, 1024, 256, 256),
        (1024, 4096, 2000, 2000),
        (64, 64, 256, 19),
        (64, 1024, 256, 256),
        (41, 41, 256, 1),
        (20, 20, 256, 1),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 256, 256),
    ],
)
def test_no_more_connections_than_descriptors(
    soft: int, hard: int, wanted: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [soft, hard]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: tuple(now))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: now.__setitem__(0, pair[0]))
    assert affordable(wanted) == expected
