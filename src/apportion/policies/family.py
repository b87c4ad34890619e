"""What all policies have in common, and the registry of the policies that take the same decision.

A policy is a frozen dataclass whose fields are its parameters, bound as POLICY in a file of its family's
folder. Other packages offer theirs in the entry-point group `apportion.policies` under names such as
`expert_cache.their_name`. Its docstring begins with what it decides in one sentence and ends with a paragraph
that begins with `Source:`.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, ClassVar, TypeVar

from apportion.core.errors import UsageError, unknown
from apportion.core.registry import Registry

GROUP = "apportion.policies"


class Policy:
    """Base of every policy, for what documentation and comparisons say about it.

    Attributes:
        lossless: whether the model's tokens stay those of a run without it.
        budget: what it spends: the claim on memory or bandwidth that grows with it.
        oracle: whether it must know the future, and so can run in replay alone.
    """

    lossless: ClassVar[bool] = True
    budget: ClassVar[str]
    oracle: ClassVar[bool] = False

    @classmethod
    def sentence(cls) -> str:
        """What it decides."""
        return _paragraphs(cls)[0]

    @classmethod
    def source(cls) -> str:
        """Where it was published."""
        return _paragraphs(cls)[-1].removeprefix("Source:").strip()

    def parameters(self) -> dict[str, Any]:
        """Its parameters and their values."""
        assert dataclasses.is_dataclass(self)
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.init}


P = TypeVar("P", bound=Policy)


class PolicyFamily(Registry[P]):
    """The policies that take one decision.

    Args:
        noun: what one of them is called in messages ("expert cache").
        package: the package whose folder holds them.
        kind: the class that all of them extend.
        baseline: the name of the one that others are compared with, which is the default.
    """

    def __init__(self, noun: str, package: str, kind: type[P], baseline: str) -> None:
        folder = package.rpartition(".")[2]
        super().__init__(noun, package, "POLICY", kind, group=GROUP, prefix=f"{folder}.")
        self.folder = folder
        self.baseline = baseline

    def choose(self, text: str) -> P:
        """The policy that `lfu_aged` or, with parameters, `lfu_aged:half_life=64` names.

        Raises:
            NotFound: there is no such policy.
            UsageError: it has no such parameter, or the value is not one for it.
        """
        name, *assignments = text.split(":")
        policy = self.get(name)
        known = policy.parameters()
        values: dict[str, Any] = {}
        for assignment in assignments:
            parameter, _, word = assignment.partition("=")
            if parameter not in known:
                raise unknown(f"parameter of {name}", parameter, known, UsageError)
            values[parameter] = _read(type(known[parameter]), word, assignment)
        return dataclasses.replace(policy, **values) if values else policy  # type: ignore[type-var]


def _read(kind: type, word: str, assignment: str) -> Any:
    """`word` as a value of the parameter's type."""
    if kind is bool and word in ("true", "false"):
        return word == "true"
    try:
        if kind in (int, float, str):
            return kind(word)
    except ValueError:
        pass
    wanted = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, kind.__name__)
    raise UsageError(f"{assignment!r} sets no parameter", f"it takes {wanted}", "for example seed=1")


def _paragraphs(cls: type) -> list[str]:
    text = inspect.cleandoc(cls.__doc__ or "")
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
