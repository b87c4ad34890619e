"""What an answer must look like: a JSON schema, a regular expression or a grammar, checked against limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from apportion.core.errors import BadFile, LimitExceeded, UsageError
from apportion.formats.bounded_json import json_depth, parse_json_bounded

if TYPE_CHECKING:
    from apportion.engine.params import SamplingParams

Kind: TypeAlias = Literal["json_schema", "regex", "grammar"]

MAX_SCHEMA_NBYTES = 64 << 10
MAX_SCHEMA_DEPTH = 32
MAX_REGEX_NBYTES = 4 << 10
MAX_GRAMMAR_NBYTES = 64 << 10
ANY_OBJECT = '{"type":"object"}'

NAMES: dict[Kind, str] = {"json_schema": "JSON schema", "regex": "regular expression", "grammar": "grammar"}
LIMITS: dict[Kind, int] = {
    "json_schema": MAX_SCHEMA_NBYTES,
    "regex": MAX_REGEX_NBYTES,
    "grammar": MAX_GRAMMAR_NBYTES,
}


@dataclass(frozen=True, slots=True)
class Spec:
    """One form of answers.

    Attributes:
        text: a JSON schema as JSON; a regular expression in the syntax of Rust's `regex` crate; a grammar as
            Lark or GBNF.
        before: Lark rules of what stands before it, all of it in the rule `before`; empty for nothing.
    """

    kind: Kind
    text: str
    before: str = ""

    def __str__(self) -> str:
        return NAMES[self.kind]


def spec_of(params: SamplingParams, before: str = "") -> Spec | None:
    """What a request's answer must look like, with what may stand before it; None for free text."""
    if params.json_schema is not None:
        assert isinstance(params.json_schema, str)
        return Spec("json_schema", params.json_schema, before)
    if params.regex is not None:
        return Spec("regex", params.regex, before)
    if params.grammar is not None:
        return Spec("grammar", params.grammar, before)
    return Spec("json_schema", ANY_OBJECT, before) if params.json_object else None


def schema_text(schema: Mapping[str, Any] | bool | str) -> str:
    """A JSON schema as compact text.

    Raises:
        UsageError: it is no JSON, or neither an object nor a truth value.
        LimitExceeded: it is longer than 64 KiB, or nested deeper than 32.
    """
    given = schema if isinstance(schema, str) else written(schema)
    check_length("json_schema", given)
    try:
        value = parse_json_bounded(given.encode("utf-8", "surrogatepass"), "the schema", MAX_SCHEMA_DEPTH)
    except BadFile as error:
        raise UsageError("the JSON schema is no JSON", error.why or error.what) from None
    if isinstance(value, bool):
        value = {} if value else {"enum": []}
    if not isinstance(value, dict):
        raise UsageError("a JSON schema is an object", found=type(value).__name__)
    return written(value)


def written(schema: object) -> str:
    """JSON text of a value, whose depth is checked before anything walks down into it again."""
    try:
        text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except RecursionError:
        raise LimitExceeded("the JSON schema is nested too deep", limit=MAX_SCHEMA_DEPTH) from None
    except (TypeError, ValueError) as error:
        raise UsageError("the JSON schema is no JSON", str(error)[:200]) from None
    depth = json_depth(text.encode("utf-8", "surrogatepass"), MAX_SCHEMA_DEPTH)
    if depth > MAX_SCHEMA_DEPTH:
        raise LimitExceeded("the JSON schema is nested too deep", depth=depth, limit=MAX_SCHEMA_DEPTH)
    return text


def check_length(kind: Kind, text: str) -> None:
    """Refuse a text that is none, is no Unicode, or is too long.

    Raises:
        UsageError, LimitExceeded
    """
    if not isinstance(text, str):
        raise UsageError(f"a {NAMES[kind]} is text", found=type(text).__name__)
    try:
        nbytes = len(text.encode())
    except UnicodeEncodeError:
        raise UsageError(f"the {NAMES[kind]} holds half of a surrogate pair") from None
    if nbytes > LIMITS[kind]:
        raise LimitExceeded(f"the {NAMES[kind]} is too long", nbytes=nbytes, limit=LIMITS[kind])
