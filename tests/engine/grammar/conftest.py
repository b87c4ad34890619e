"""Grammars over a vocabulary of bytes, and a small judge of JSON schemas."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.engine.conftest import ByteTokenizer

from apportion.engine.grammar import Grammars

pytest.importorskip("llguidance", reason="needs llguidance, one of the package's own dependencies")

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def satisfies(value: Any, schema: Any) -> bool:
    """Whether a value is of a schema, for the keywords that the tests use."""
    if isinstance(schema, bool):
        return schema
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    checks = [
        not kinds or any(of_type(value, kind) for kind in kinds),
        "enum" not in schema or value in schema["enum"],
        "const" not in schema or value == schema["const"],
        "anyOf" not in schema or any(satisfies(value, one) for one in schema["anyOf"]),
        all(satisfies(value, one) for one in schema.get("allOf", [])),
    ]
    if isinstance(value, dict):
        known = schema.get("properties", {})
        checks += [name in value for name in schema.get("required", [])]
        checks += [satisfies(item, known.get(name, True)) for name, item in value.items()]
        checks.append(schema.get("additionalProperties", True) is not False or set(value) <= set(known))
    if isinstance(value, list):
        checks += [satisfies(item, schema.get("items", True)) for item in value]
        checks.append(schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)))
    if isinstance(value, str):
        checks.append(schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)))
        checks.append(re.search(schema.get("pattern", ""), value) is not None)
    if isinstance(value, int | float) and not isinstance(value, bool):
        checks.append(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    return all(checks)


def of_type(value: Any, kind: str) -> bool:
    if kind in TYPES:
        return isinstance(value, TYPES[kind])
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and (kind == "number" or float(value).is_integer())


@pytest.fixture(scope="session")
def grammars() -> Iterator[Grammars]:
    """Over the tokenizer of the scripted model."""
    made = Grammars(ByteTokenizer())
    yield made
    made.close()
