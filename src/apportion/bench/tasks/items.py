"""Items of tasks, from files of JSON lines in the shapes that are about, plain or gzipped.

| fields of a line | what is compared |
| --- | --- |
| `query`, `choices`, `gold` | the choices, after the query |
| `query`, `endings`, `label` | the endings, after the query |
| `question`, `choices`, `answer` | the letters A, B, .., after question, choices and `Answer:` |
| `context_options`, `continuation`, `gold` | the continuation, after each of the options |
| `context`, `continuation` | nothing: whether the continuation is what the model says |

What is compared follows after a space. A query that asks a `Question:` is first followed by `Answer:` on a
line of its own.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from apportion.core.errors import BadFile, Unsupported

MAX_LINE_NBYTES = 1 << 20
SUFFIXES = (".gz", ".jsonl", ".json", ".dev")  # that do not belong to a task's name


@dataclass(frozen=True, slots=True)
class Item:
    """One question.

    Attributes:
        contexts: what each of the choices follows; one where it is the same for all.
        choices: what may follow; one where contexts differ.
        gold: the right one; None where there is none to choose from.
    """

    contexts: tuple[str, ...]
    choices: tuple[str, ...]
    gold: int | None

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Context and what follows it, with the space between them, for each choice."""
        count = max(len(self.contexts), len(self.choices))
        contexts = self.contexts * count if len(self.contexts) == 1 else self.contexts
        choices = self.choices * count if len(self.choices) == 1 else self.choices
        return [(context, f" {choice}") for context, choice in zip(contexts, choices, strict=True)]


@dataclass(frozen=True, slots=True)
class Task:
    """Items of one file, all of one shape."""

    name: str
    items: Sequence[Item]

    @property
    def has_choices(self) -> bool:
        return self.items[0].gold is not None


def read_task(path: Path, limit: int | None = None) -> Task:
    """The items of a file.

    Args:
        limit: only the first ones.

    Raises:
        BadFile: a line breaks the format, or there are none.
        Unsupported: these are no tasks with answers to compare.
    """
    items: list[Item] = []
    for number, line in enumerate(lines(path), 1):
        try:
            record = json.loads(line)
            items.append(item_of(record))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise BadFile(f"line {number} of {path.name} is no item", str(error)) from error
        if (items[-1].gold is None) != (items[0].gold is None):
            raise BadFile(f"line {number} of {path.name} has another shape than the first")
        if len(items) == limit:
            break
    if not items:
        raise BadFile(f"{path.name} holds no items")
    return Task(task_name(path), items)


def task_name(path: Path) -> str:
    """`piqa` of `piqa.dev.jsonl.gz`."""
    name = path.name
    while name.endswith(SUFFIXES):
        name = name[: name.rindex(".")]
    return name


def lines(path: Path) -> Iterator[str]:
    """Lines that are not empty.

    Raises:
        BadFile: it is no text, its compression is broken, or a line is longer than any real one.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while line := file.readline(MAX_LINE_NBYTES + 1):
                if len(line) > MAX_LINE_NBYTES:
                    raise BadFile(f"a line of {path.name} is too long", limit_nbytes=MAX_LINE_NBYTES)
                if line.strip():
                    yield line.decode()
    except (UnicodeDecodeError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise BadFile(f"{path.name} cannot be read as text", str(error)) from error


# --- shapes ---


def item_of(record: object) -> Item:
    """One line.

    Raises:
        Unsupported: it has another shape.
        KeyError, TypeError, ValueError: a field is wrong.
    """
    if not isinstance(record, Mapping):
        raise ValueError("it is no object")
    for fields, read in SHAPES:
        if fields <= record.keys() and not isinstance(record.get("answer"), str):
            return read(record)
    raise Unsupported(
        "this is no task with answers to compare",
        f"its fields are {', '.join(sorted(map(str, record)))[:200]}",
        "tasks whose answers are written and then judged are not run here",
    )


def query(record: Mapping[str, Any]) -> Item:
    options = texts(record["choices"])
    return Item((asked(text(record["query"])),), options, index(record["gold"], options))


def ending(record: Mapping[str, Any]) -> Item:
    options = texts(record["endings"])
    return Item((text(record["query"]).rstrip(),), options, index(record["label"], options))


def letters(record: Mapping[str, Any]) -> Item:
    options = texts(record["choices"])
    names = tuple(ascii_uppercase[: len(options)])
    listed = "".join(f"\n{name}. {option}" for name, option in zip(names, options, strict=True))
    context = f"{text(record['question']).strip()}{listed}\nAnswer:"
    return Item((context,), names, index(record["answer"], names))


def several_contexts(record: Mapping[str, Any]) -> Item:
    options = tuple(option.rstrip() for option in texts(record["context_options"]))
    return Item(options, (text(record["continuation"]).strip(),), index(record["gold"], options))


def continuation(record: Mapping[str, Any]) -> Item:
    return Item((text(record["context"]).rstrip(),), (text(record["continuation"]).strip(),), None)


SHAPES: Sequence[tuple[frozenset[str], Callable[[Mapping[str, Any]], Item]]] = (
    (frozenset({"query", "choices", "gold"}), query),
    (frozenset({"query", "endings", "label"}), ending),
    (frozenset({"question", "choices", "answer"}), letters),
    (frozenset({"context_options", "continuation", "gold"}), several_contexts),
    (frozenset({"context", "continuation"}), continuation),
)


def asked(given: str) -> str:
    """A query, with `Answer:` where it asks a question."""
    given = given.rstrip()
    asks = any(line.startswith("Question:") for line in given.splitlines())
    return f"{given}\nAnswer:" if asks and not given.endswith("Answer:") else given


def text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{str(value)[:40]!r} is no text")
    return value


def texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not 2 <= len(value) <= len(ascii_uppercase):
        raise ValueError("there is nothing to choose from")
    return tuple(text(one) for one in value)


def index(value: object, options: Sequence[str]) -> int:
    if type(value) is not int or not 0 <= value < len(options):
        raise ValueError(f"{str(value)[:40]!r} is none of the choices")
    return value
