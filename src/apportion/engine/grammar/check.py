"""The other end of `check_worker`: whether a specification can be used, found out where it can do no harm."""

from __future__ import annotations

import importlib.util
import json
import signal
from functools import cached_property
from pathlib import Path

from apportion.core.child import Child, ChildBroken
from apportion.core.errors import ApportionError, LimitExceeded, Unsupported, UsageError
from apportion.engine.grammar.spec import Spec

CPU_LIMIT_S = 2.0
WALL_LIMIT_S = 10.0  # of a child that hardly gets to run
MEMORY_LIMIT_NBYTES = 512 << 20
STACK_LIMIT_NBYTES = 4 << 20  # half of what our own threads have: what passes there passes here

_WORKER = Path(__file__).with_name("check_worker.py")
# How llguidance begins to say that no text satisfies a grammar, or a schema.
_NO_TEXT, _NO_VALUE = "NoExtension", "Unsatisfiable schema: "


class Check:
    """A child process that compiles specifications; one at a time."""

    def grammar(self, spec: Spec) -> str:
        """The specification in llguidance's words.

        Raises:
            UsageError: it is not well-formed, says what is not supported, or nothing satisfies it.
            LimitExceeded: compiling it takes too long or too much memory.
        """
        request = json.dumps({"kind": spec.kind, "text": spec.text, "before": spec.before}).encode()
        try:
            reply = json.loads(self._child.ask(request))
        except ChildBroken as broken:
            raise failure(spec, broken) from None
        if "error" in reply:
            raise refusal(spec, str(reply["error"]))
        return str(reply["grammar"])

    def close(self) -> None:
        """End the child; the next question starts a new one."""
        self._child.close()

    @cached_property
    def _child(self) -> Child:
        bounds = [MEMORY_LIMIT_NBYTES, CPU_LIMIT_S, STACK_LIMIT_NBYTES]
        return Child(_WORKER, bounds, [library_folder()], WALL_LIMIT_S)


def library_folder() -> str:
    """The folder that holds llguidance."""
    found = importlib.util.find_spec("llguidance")
    if found is None or found.origin is None:
        raise Unsupported(
            "answers cannot be held to a form here",
            "the package llguidance is not installed",
            "pip install llguidance",
        )
    return str(Path(found.origin).parents[1])


def refusal(spec: Spec, why: str) -> UsageError:
    """The error for what the compiler says about a specification."""
    if why.startswith(_NO_TEXT):
        return UsageError(f"nothing can satisfy the {spec}", "no text matches it")
    words = " ".join(why.replace("<non-verbose/>", "").split())
    if why.startswith(_NO_VALUE):
        return UsageError(f"nothing can satisfy the {spec}", words.removeprefix(_NO_VALUE)[:400])
    hint = "docs/structured-output.md lists what is supported" if spec.kind == "json_schema" else ""
    return UsageError(f"the {spec} cannot be used", words[:400], hint)


def failure(spec: Spec, broken: ChildBroken) -> ApportionError:
    """The error for a child that ended over a specification."""
    if broken.starting:
        return Unsupported(
            "answers cannot be held to a form here",
            "the process that compiles grammars does not start",
            "it needs a POSIX system with resource limits",
            status=broken.status,
            error=str(broken),
        )
    hint = "write a simpler one: fewer references, repetitions and alternatives"
    if broken.status == -signal.SIGPROF:
        return LimitExceeded(f"the {spec} takes too long to compile", hint=hint, limit_s=CPU_LIMIT_S)
    why = "compiling it broke the process that does it: it is too large, or refers to itself without end"
    return LimitExceeded(f"the {spec} is too complex", why, hint, status=broken.status)
