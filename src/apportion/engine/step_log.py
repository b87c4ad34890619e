"""What an engine's steps were, and how long each took: to fit a cost model to, and to do the same again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apportion.core.errors import BadFile, NotFound
from apportion.engine.executor import RunItem


@dataclass(frozen=True, slots=True)
class LoggedItem:
    """Tokens of a request, after `num_before` others, through layers first_layer..end_layer - 1."""

    request: int
    num_tokens: int
    num_before: int
    first_layer: int
    end_layer: int


@dataclass(frozen=True, slots=True)
class LoggedStep:
    """A step that began at `begin_s` by the engine's clock."""

    begin_s: float
    seconds: float
    items: tuple[LoggedItem, ...]


@dataclass(slots=True)
class StepLog:
    """Steps in order; `engine.on_step = log` adds those of an engine of `num_layers` layers."""

    num_layers: int
    steps: list[LoggedStep] = field(default_factory=list)

    def __call__(self, items: Sequence[RunItem], begin_s: float, seconds: float) -> None:
        self.steps.append(LoggedStep(begin_s, seconds, logged(items)))

    def write(self, path: Path) -> None:
        """One line for the number of layers, and one for each step."""
        with path.open("w", encoding="utf-8") as file:
            file.write(json.dumps({"num_layers": self.num_layers}) + "\n")
            for step in self.steps:
                items = [
                    [one.request, one.num_tokens, one.num_before, one.first_layer, one.end_layer]
                    for one in step.items
                ]
                line = {"begin_s": step.begin_s, "seconds": step.seconds, "items": items}
                file.write(json.dumps(line) + "\n")

    @classmethod
    def read(cls, path: Path) -> StepLog:
        """
        Raises:
            NotFound: there is no such file.
            BadFile: it is no log of steps.
        """
        try:
            with path.open(encoding="utf-8") as file:
                records = (json.loads(line) for line in file)
                log = cls(_count(next(records)["num_layers"], 1))
                log.steps += _steps(records, log.num_layers)
        except FileNotFoundError:
            raise NotFound(f"there is no log of steps {path}") from None
        except (ValueError, TypeError, KeyError, StopIteration, RecursionError, OSError) as error:
            raise BadFile(f"{path.name} is no log of steps", str(error)) from error
        return log


def logged(items: Sequence[RunItem]) -> tuple[LoggedItem, ...]:
    """What is remembered of a step's items."""
    return tuple(
        LoggedItem(item.request, len(item.ids), item.start, item.first_layer, item.end_layer)
        for item in items
    )


def _steps(records: Iterator[dict[str, Any]], num_layers: int) -> Iterator[LoggedStep]:
    for record in records:
        begin_s, seconds = float(record["begin_s"]), float(record["seconds"])
        items = tuple(LoggedItem(*(_count(number) for number in item)) for item in record["items"])
        good = all(item.num_tokens > 0 and item.first_layer < item.end_layer <= num_layers for item in items)
        if not (good and abs(begin_s) < 1e12 and 0 < seconds < 1e9):
            raise ValueError(f"a step makes no sense: {record}")
        yield LoggedStep(begin_s, seconds, items)


def _count(value: object, least: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{value!r} is no count")
    return value
