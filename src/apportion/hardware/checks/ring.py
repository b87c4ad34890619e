"""Whether the kernel reads asynchronously for us (io_uring), and if not, who forbids it."""

from __future__ import annotations

from collections.abc import Iterator

from apportion.hardware.facts import Facts
from apportion.hardware.finding import Finding, Level

OLDEST = (5, 11)  # kernels that have all that the reader asks for


def check(facts: Facts) -> Iterator[Finding]:
    refusal, system = facts.ring_refusal, facts.system
    if not refusal:
        yield Finding(Level.OK, "io_uring", "asynchronous reads by the kernel's ring")
        return
    why, advice = _cause(facts)
    what = f"io_uring is refused ({refusal}): threads read instead"
    numbers = {"kernel": system.kernel, "io_uring_disabled": system.ring_setting, "seccomp": system.filtered}
    yield Finding(Level.WARNING, "io_uring", what, f"{why}; small reads get slower", advice, numbers)


def _cause(facts: Facts) -> tuple[str, str]:
    """Who refuses, and what to do."""
    system = facts.system
    if facts.ring_refusal == "ENOSYS" or _version(system.kernel) < OLDEST:
        needed = ".".join(map(str, OLDEST))
        return f"the kernel {system.kernel} is built without it or older than {needed}", "use a newer kernel"
    if system.ring_setting:
        who = "nobody" if system.ring_setting == 2 else "only a group of users"
        return f"kernel.io_uring_disabled is {system.ring_setting}: {who} may use it", (
            "as root: sysctl kernel.io_uring_disabled=0"
        )
    if system.filtered:
        return "a filter of system calls (seccomp) forbids it, as container runtimes do", (
            "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile"
        )
    if facts.ring_refusal == "ENOMEM":
        return "the limit of locked memory is too low for it", "raise it: ulimit -l unlimited"
    return "the system does not say why", "look into its security settings"


def _version(kernel: str) -> tuple[int, int]:
    """5.15 of `5.15.0-generic`; where it cannot be told, new enough."""
    words = kernel.replace("-", ".").split(".")
    if len(words) < 2 or not (words[0].isdecimal() and words[1].isdecimal()):
        return OLDEST
    return int(words[0]), int(words[1])
