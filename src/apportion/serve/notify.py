"""Words to the program that started the server, where that wants to know how it is doing (sd_notify)."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

VARIABLE = "NOTIFY_SOCKET"


def notify(*words: str) -> bool:
    """Send `READY=1`, `STOPPING=1`, `STATUS=..` to the socket that the environment names; whether there is
    one that took it. It never fails and never waits.
    """
    address = os.environ.get(VARIABLE, "")
    if not address.startswith(("/", "@")):
        return False
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        sender.connect("\0" + address[1:] if address[0] == "@" else address)
        sender.send("\n".join(words).encode())
        return True
    return False
