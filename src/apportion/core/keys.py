"""Unit keys: the names of the smallest things that are placed or moved as one.

Keys sort in the order in which a token meets them: the embedding, then layer by layer the dense part and the
experts, then the head.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import NamedTuple

from apportion.core.errors import UsageError

DENSE = -1  # the expert number of a layer's dense part; sorts before expert 0
_MAX_DIGITS = 6
_TEXT = re.compile(rf"L([0-9]{{2,{_MAX_DIGITS}}})\.(?:dense|e([0-9]{{3,{_MAX_DIGITS}}}))")


class Stage(IntEnum):
    """Where in the model a unit lies."""

    EMBEDDING = 0
    LAYER = 1
    HEAD = 2


# A tuple and not a dataclass: keys are hashed and compared for every expert of every layer and token, and a
# tuple does that in C.
class UnitKey(NamedTuple):
    """One unit. Make it with `dense_key`, `expert_key`, `EMBEDDING`, `HEAD` or `parse`."""

    stage: Stage
    layer: int
    expert: int

    @property
    def is_expert(self) -> bool:
        return self.expert != DENSE

    def __str__(self) -> str:
        if self.stage is Stage.LAYER:
            return f"L{self.layer:02d}." + (f"e{self.expert:03d}" if self.is_expert else "dense")
        return self.stage.name.lower()

    @classmethod
    def parse(cls, text: str) -> UnitKey:
        """The key whose `str()` is `text`.

        Raises:
            UsageError: `text` names no unit.
        """
        if text in _WHOLE:
            return _WHOLE[text]
        match = _TEXT.fullmatch(text)
        if match is not None:
            key = cls(Stage.LAYER, int(match[1]), DENSE if match[2] is None else int(match[2]))
            if str(key) == text:  # one spelling per key: L007.dense is not L07.dense
                return key
        raise UsageError(f"not a unit: {text[:40]!r}", hint="write embedding, head, L07.dense or L07.e012")


EMBEDDING = UnitKey(Stage.EMBEDDING, 0, DENSE)
HEAD = UnitKey(Stage.HEAD, 0, DENSE)
_WHOLE = {str(key): key for key in (EMBEDDING, HEAD)}


def dense_key(layer: int) -> UnitKey:
    """The key of layer `layer`'s dense part: attention, norms, router, shared experts."""
    assert layer >= 0, layer
    return UnitKey(Stage.LAYER, layer, DENSE)


def expert_key(layer: int, expert: int) -> UnitKey:
    """The key of expert `expert` of layer `layer`."""
    assert layer >= 0, layer
    assert expert >= 0, expert
    return UnitKey(Stage.LAYER, layer, expert)
