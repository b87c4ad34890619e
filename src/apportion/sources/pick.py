"""Which GGUF of several: one rule for hub repositories, packages and cached snapshots."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from apportion.core.errors import NotFound, UsageError
from apportion.sources.reference import shown

DEFAULT_QUANT = "Q4_K_M"
SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})")
QUANT = re.compile(
    r"(?:^|[-._])((?:UD-)?(?:I?Q\d+(?:_[0-9A-Z]{1,3})*|TQ\d_\d|MXFP4(?:_MOE)?|NVFP4|BF16|F?P?16|F?P?32))$",
    re.IGNORECASE,
)
# Projectors and calibration data lie beside models and are none.
NO_MODEL = re.compile(r"(?:^|[-._])(?:mmproj|imatrix)", re.IGNORECASE)
BITS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Choice:
    """One model among GGUF files: all its shards in order, their bytes, and its quantization tag."""

    quant: str
    names: tuple[str, ...]
    nbytes: int
    complete: bool

    @property
    def first(self) -> str:
        return self.names[0]


def choices(files: Iterable[tuple[str, int]]) -> list[Choice]:
    """Group (name, bytes) of GGUF files into models, shards together."""
    groups: dict[tuple[str, int], dict[int, tuple[str, int]]] = {}
    for name, nbytes in files:
        stem = name[: -len(".gguf")]
        if not name.lower().endswith(".gguf") or NO_MODEL.search(PurePosixPath(stem).name):
            continue
        shard = SHARD.fullmatch(stem)
        base, number, count = (shard[1], int(shard[2]), int(shard[3])) if shard else (stem, 1, 1)
        groups.setdefault((base, count), {})[number] = (name, nbytes)
    return [as_choice(base, count, shards) for (base, count), shards in sorted(groups.items())]


def as_choice(base: str, count: int, shards: dict[int, tuple[str, int]]) -> Choice:
    names = tuple(name for _, (name, _) in sorted(shards.items()))
    complete = set(shards) == set(range(1, count + 1))
    return Choice(quant_of(base), names, sum(nbytes for _, nbytes in shards.values()), complete)


def quant_of(stem: str) -> str:
    """The quantization tag at the end of a file's stem, in capitals; empty when it has none."""
    match = QUANT.search(PurePosixPath(stem).name)
    return match[1].upper() if match else ""


def pick(files: Iterable[tuple[str, int]], quant: str | None, where: str) -> Choice:
    """The model that `quant` names; without one `Q4_K_M`, else the smallest of at least 4 bits, else the
    smallest.

    Raises:
        NotFound: no (complete) model, or none with that tag.
        UsageError: several models carry the tag.
    """
    offered = choices(files)
    found = [choice for choice in offered if choice.complete]
    if not found:
        why = "parts of it are missing" if offered else "it holds no GGUF model"
        raise NotFound(f"no model in {where}", why)
    if quant is None:
        return default_choice(found)
    fitting = [choice for choice in found if choice.quant == quant]
    if not fitting:
        tags = ", ".join(sorted({choice.quant or choice.first for choice in found}))
        raise NotFound(f"no {quant} in {where}", hint=f"there are: {shown(tags, 400)}")
    if len(fitting) > 1:
        names = ", ".join(choice.first for choice in fitting)
        raise UsageError(
            f"several models in {where} are {quant}", hint=f"download one of them: {shown(names, 400)}"
        )
    return fitting[0]


def default_choice(found: list[Choice]) -> Choice:
    def rank(choice: Choice) -> tuple[bool, bool, int, str]:
        bits = BITS.search(choice.quant)
        return (choice.quant != DEFAULT_QUANT, bits is None or int(bits[0]) < 4, choice.nbytes, choice.first)

    return min(found, key=rank)
