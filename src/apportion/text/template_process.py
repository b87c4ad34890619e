"""The other end of `template_worker`: asks the child, and says in words which limit a template broke."""

from __future__ import annotations

import importlib.util
import json
import signal
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

from apportion.core.child import Child, ChildBroken
from apportion.core.errors import ApportionError, LimitExceeded, TemplateError, Unsupported

CPU_LIMIT_S = 1.0
MEMORY_LIMIT_NBYTES = 256 << 20
MAX_REQUEST_NBYTES = 16 << 20
FAILED = "the chat template failed"

_WORKER = Path(__file__).with_name("template_worker.py")
_WHY = {
    "output": "its output is longer than 4 MiB",
    "memory": "it needs more than 256 MiB of memory",
    "depth": "it is nested too deep",
}


class TemplateProcess:
    """A child process that renders templates. Started when first needed, kept for the next rendering, killed
    and forgotten when it breaks a limit. Safe to share between threads, which take turns.
    """

    def render(self, source: str, variables: dict[str, Any], now: list[int]) -> str:
        """The rendered text.

        Raises:
            TemplateError: the template refused, failed, or passed a limit of time, memory, depth or output.
            LimitExceeded: the messages are too large to render.
        """
        request = {"template": source, "variables": variables, "now": now}
        data = json.dumps(request, ensure_ascii=False).encode("utf-8", "surrogatepass")
        if len(data) > MAX_REQUEST_NBYTES:
            raise LimitExceeded("the chat is too large", nbytes=len(data), limit=MAX_REQUEST_NBYTES)
        try:
            reply = json.loads(self._child.ask(data).decode("utf-8", "surrogatepass"))
        except ChildBroken as broken:
            raise _failure(broken) from None
        if reply.get("error") in _WHY:
            self.close()  # a heap that was nearly full, or a stack that was, is not used again
        return _text_of(reply)

    def close(self) -> None:
        """End the child; the next rendering starts a new one."""
        self._child.close()

    @cached_property
    def _child(self) -> Child:
        # The processor time of one rendering is what is limited; time on the clock only catches a child that
        # does not run at all.
        return Child(_WORKER, [MEMORY_LIMIT_NBYTES, CPU_LIMIT_S], _library_folders())


def _library_folders() -> list[str]:
    if not sys.executable:
        raise Unsupported("chat templates cannot be rendered here", "there is no Python executable to start")
    folders = []
    for name in ("jinja2", "markupsafe"):
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            raise Unsupported("chat templates cannot be rendered here", f"{name} is not installed")
        folders.append(str(Path(found.origin).parents[1]))
    return folders


def _failure(broken: ChildBroken) -> ApportionError:
    if broken.starting:
        return Unsupported(
            "chat templates cannot be rendered here",
            "the process that renders them does not start",
            "it needs a POSIX system with resource limits",
            status=broken.status,
            error=str(broken),
        )
    what = "the chat template was stopped"
    if broken.status == -signal.SIGPROF:
        return TemplateError(what, "it ran longer than its time limit", limit_s=CPU_LIMIT_S)
    why = "it broke the process that renders it"
    return TemplateError(what, why, status=broken.status, error=str(broken))


def _text_of(reply: dict[str, Any]) -> str:
    kind = reply.get("error")
    if kind is None:
        return str(reply["text"])
    if kind == "refused":
        raise TemplateError("the chat template refuses these messages", reply["message"])
    if kind in _WHY:
        raise TemplateError("the chat template was stopped", _WHY[kind])
    raise TemplateError(
        FAILED,
        reply["message"],
        "the template may need variables or message fields that were not given",
    )
