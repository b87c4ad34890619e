"""Sockets to listen with, opened before any model is loaded: what stands in the way is said at once."""

from __future__ import annotations

import errno
import resource
import socket
from collections.abc import Sequence

from apportion.core.errors import ApportionError, InUse, UsageError
from apportion.serve.access import is_loopback

BACKLOG = 1024
OTHER_FILES = 40  # descriptors for everything that is no connection: models, stores, pipes


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets for every address of a host; with port 0 they share the one that the system gives the first.

    Raises:
        InUse: somebody else has the port.
        UsageError: it is no address of this machine, or not for this user.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"cannot listen at {host!r}", "it is no address", "give --host an IP address"
        ) from error
    sockets: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
            taken = sockets[0].getsockname()[1] if sockets else port
            sockets.append(opened(family, (address[0], taken, *address[2:]), len(found) > 1))
    except OSError as error:
        for one in sockets:
            one.close()
        raise explained(error, host, port) from error
    return sockets


def opened(family: int, address: tuple[object, ...], has_twin: bool) -> socket.socket:
    """A socket that is bound. One for IPv6 hears IPv4, too, unless there is a socket for that."""
    # The protocol is named, since asyncio turns off Nagle's delays only where it is.
    one = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(has_twin))
        one.bind(address)
        one.listen(BACKLOG)
        one.setblocking(False)
    except BaseException:
        one.close()
        raise
    return one


def explained(error: OSError, host: str, port: int) -> ApportionError:
    """What stands in the way of listening."""
    what = f"cannot listen at {host} port {port}"
    match error.errno:
        case errno.EADDRINUSE:
            return InUse(what, "another program has the port", "give --port another number, or 0 for any")
        case errno.EACCES | errno.EPERM:
            return UsageError(what, "this user may not", "give --port a number from 1024 on")
        case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT:
            return UsageError(what, "it is no address of this machine", "give --host one that is")
    return UsageError(what, error.strerror or "the system refused")


def url_of(sockets: Sequence[socket.socket]) -> str:
    """Where the server is found."""
    host, port = sockets[0].getsockname()[:2]
    if not is_loopback(host) and host in ("0.0.0.0", "::"):  # noqa: S104  # named, not listened at
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def affordable(connections: int) -> int:
    """As many connections as there can be file descriptors for, after asking for as many as are allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + connections // 4 + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        ceiling = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        if ceiling > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))
            soft = ceiling
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    return max(1, (soft - OTHER_FILES) * 4 // 5)
