"""What runs in a child process of `core.child`: it bounds itself, and then answers until its pipe closes.

Imports nothing of ours: a child is quick to start, and has little to be attacked with.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import BinaryIO


def serve(answer: Callable[[bytes], bytes], memory_nbytes: int, cpu_s: float, stack_nbytes: int = 0) -> None:
    """Answer questions. Past `cpu_s` of processor time in one of them, SIGPROF ends the process.

    Args:
        memory_nbytes: of address space.
        stack_nbytes: of the stack; 0 leaves it as it is.
    """
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program that asks
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    bound_this_process(memory_nbytes, stack_nbytes)
    write_frame(sys.stdout.buffer, b"{}")
    while (data := read_frame(sys.stdin.buffer)) is not None:
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        reply = answer(data)
        signal.setitimer(signal.ITIMER_PROF, 0)
        write_frame(sys.stdout.buffer, reply)


def bound_this_process(memory_nbytes: int, stack_nbytes: int = 0) -> None:
    """From here on: so much address space, no new files, no file growth, no core dump, no new process."""
    import resource

    if stack_nbytes:
        resource.setrlimit(resource.RLIMIT_STACK, (stack_nbytes, stack_nbytes))
    resource.setrlimit(resource.RLIMIT_AS, (memory_nbytes, memory_nbytes))
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_NPROC):
        resource.setrlimit(limit, (0, 0))


def read_frame(stream: BinaryIO) -> bytes | None:
    """One length-prefixed message; None at the end of the stream."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    return stream.read(int.from_bytes(head, "big"))


def write_frame(stream: BinaryIO, data: bytes) -> None:
    """Write one length-prefixed message."""
    stream.write(len(data).to_bytes(4, "big") + data)
    stream.flush()
