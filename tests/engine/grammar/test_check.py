"""Hostile, wrong and unsatisfiable specifications: a clear error, soon, and the next request is served."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from apportion.core.errors import ApportionError, LimitExceeded, UsageError
from apportion.engine.grammar import Spec
from apportion.engine.grammar.check import Check


@pytest.fixture(scope="module")
def check() -> Iterator[Check]:
    made = Check()
    made.grammar(Spec("regex", "a"))  # starts the child
    yield made
    made.close()


def schema(value: object) -> Spec:
    return Spec("json_schema", json.dumps(value))


def chain(link: str) -> Spec:
    """1,500 definitions, each of which refers to the next."""
    names = {f"d{i}": json.loads(link.replace("NEXT", f"#/$defs/d{i + 1}")) for i in range(900)}
    return schema({"$ref": "#/$defs/d0", "$defs": {**names, "d900": {"type": "integer"}}})


def lark_chain(count: int) -> Spec:
    rules = "\n".join(f"R{i}: R{i + 1}" for i in range(count))
    return Spec("grammar", f'start: R0\n{rules}\nR{count}: "a"')


UNSATISFIABLE = [
    schema(False),
    schema({"enum": []}),
    schema({"type": "string", "minLength": 5, "maxLength": 2}),
    schema({"allOf": [{"type": "string"}, {"type": "integer"}]}),
    schema({"type": "object", "required": ["a"], "properties": {"a": False}}),
    schema({"type": "integer", "minimum": 5, "maximum": 4}),
    schema({"$ref": "#"}),
    schema({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
    Spec("regex", r"[^\s\S]"),
    Spec("grammar", "start: start"),
]
MALFORMED = [
    schema({"type": "text"}),
    schema({"type": 3}),
    schema({"not": {"type": "string"}}),
    schema({"oneOf": [{"type": "string"}, {"minLength": 2}]}),
    schema({"$ref": "#/nowhere"}),
    schema({"type": "string", "pattern": "("}),
    schema({"allOf": [{"$ref": "#"}, {"type": "object"}]}),
    Spec("regex", "(" * 10),
    Spec("regex", "(" * 2000 + ")" * 2000),
    Spec("regex", "(?=a)b"),
    Spec("regex", r"(a)\1"),
    Spec("regex", "a{3,2}"),
    Spec("regex", "[z-a]"),
    Spec("grammar", 'foo: "a"'),
    Spec("grammar", "start: missing"),
    Spec("grammar", "start: " + "(" * 30_000 + '"a"' + ")" * 30_000),
    Spec("grammar", 'root ::= "a" ::= "b"'),
    Spec("grammar", "\0\1\2"),
]
TOO_LARGE = [
    chain('{"allOf": [{"$ref": "NEXT"}, {"$ref": "NEXT"}]}'),
    chain('{"type": "object", "properties": {"a": {"$ref": "NEXT"}, "b": {"$ref": "NEXT"}}}'),
    lark_chain(5000),
    Spec("grammar", "start: R0\n" + "\n".join(f"R{i}: R{i + 1} R{i + 1}" for i in range(60)) + '\nR60: "a"'),
    schema({"allOf": [{"anyOf": [{"properties": {f"p{i}{j}": {}}} for j in range(4)]} for i in range(10)]}),
]
HARMLESS = [
    Spec("regex", "foo**"),
    Spec("regex", "(a+)+b"),
    Spec("regex", "(?:a?){500}a{500}"),
    Spec("regex", "(a{1,1000}){1,1000}"),
    Spec("regex", r"[\s\S]*x[\s\S]{4000}"),
    Spec("regex", r"\p{L}{1,200}\p{Greek}+"),
    Spec("regex", "|".join(f"{i:x}" for i in range(900))),
    schema({"enum": [f"v{i:04}" for i in range(5_000)]}),
    schema({"type": "string", "maxLength": 1_000_000}),
    schema({"type": "array", "minItems": 100_000, "items": {"type": "integer"}}),
    schema({"type": "object", "properties": {f"k{i}": {"type": "string"} for i in range(1_500)}}),
    Spec("grammar", 'root ::= ("yes" | "no") [.!]?'),
    schema({"enum": list(range(10_000))}),
    Spec("regex", r"[\p{L}--\p{ASCII}]{1,50}"),
    Spec("regex", r"(?i)straße|ΣΊΣΥΦΟΣ"),
    Spec("regex", r"[\u{1F600}-\u{1F64F}]+"),
    Spec("regex", r"(((a*)*)*)*b"),
    Spec("regex", r"(x+x+)+y"),
    Spec("regex", r"(.*)*(.*)*z"),
    Spec("regex", "a{0}"),
    Spec("regex", "^[a-z]+$"),
    schema({"type": "string", "pattern": "^(a+)+$"}),
    schema({"type": "array", "items": {"$ref": "#"}, "maxItems": 3}),
    schema(
        {"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}}}}
    ),
    schema({"type": ["string", "null", "integer", "boolean", "number", "array", "object"]}),
]
FOREIGN_TOKENS = [
    Spec("grammar", "start: <[128010]> /a+/"),
    Spec("grammar", 'start: "a" <[257]>'),
    Spec("json_schema", '{"type":"integer"}', 'before: "x" <[50000]>\n'),
    Spec("regex", "a+", 'before: thought\nthought[suffix="</think>"]: /(?s:.*)/\n'),
    Spec("grammar", 'start: "a"', 'before: "x"?\n'),
]
BROKEN_BEFORE = [
    Spec("regex", "a+", "before: missing\n"),
    Spec("regex", "a+", "thought: /a/\n"),
    Spec("regex", "(", 'before: "x"\n'),
    Spec("json_schema", '{"type":"strin"}', 'before: "x"\n'),
]


def judged(check: Check, spec: Spec) -> ApportionError | None:
    begin = time.process_time()
    try:
        check.grammar(spec)
        return None
    except ApportionError as error:
        return error
    finally:
        assert time.process_time() - begin < 2


@pytest.mark.parametrize("spec", UNSATISFIABLE, ids=lambda spec: spec.text[:40])
def test_what_nothing_satisfies_is_refused(check: Check, spec: Spec) -> None:
    assert isinstance(judged(check, spec), UsageError)


@pytest.mark.parametrize("spec", MALFORMED, ids=lambda spec: spec.text[:40])
def test_what_is_wrong_is_refused_with_the_compilers_words(check: Check, spec: Spec) -> None:
    error = judged(check, spec)
    assert isinstance(error, UsageError)
    assert error.why
    assert "non-verbose" not in str(error)


@pytest.mark.parametrize("spec", TOO_LARGE, ids=range(len(TOO_LARGE)))
def test_what_would_break_the_compiler_breaks_only_the_child(check: Check, spec: Spec) -> None:
    assert isinstance(judged(check, spec), LimitExceeded | UsageError)
    assert check.grammar(Spec("regex", "a"))


def test_references_that_exhaust_the_stack_are_too_complex(check: Check) -> None:
    error = judged(check, TOO_LARGE[1])
    assert isinstance(error, LimitExceeded)
    assert "too complex" in error.what
    assert error.numbers["status"] < 0


@pytest.mark.parametrize("spec", HARMLESS, ids=lambda spec: spec.text[:40])
def test_what_only_looks_dangerous_is_compiled(check: Check, spec: Spec) -> None:
    assert judged(check, spec) is None


@pytest.mark.parametrize("spec", FOREIGN_TOKENS, ids=lambda spec: spec.text[:40])
def test_tokens_that_are_no_text_and_rules_before_a_form_are_compiled(check: Check, spec: Spec) -> None:
    assert judged(check, spec) is None


@pytest.mark.parametrize("spec", BROKEN_BEFORE, ids=lambda spec: spec.before[:40])
def test_rules_before_a_form_and_the_form_behind_them_are_checked(check: Check, spec: Spec) -> None:
    assert isinstance(judged(check, spec), UsageError)


def test_the_grammar_keeps_the_numbers_of_its_tokens(check: Check) -> None:
    assert "<[128010]>" in check.grammar(FOREIGN_TOKENS[0])


def test_processor_time_is_bounded() -> None:
    from apportion.core.child import ChildBroken
    from apportion.engine.grammar.check import failure

    error = failure(Spec("regex", "a"), ChildBroken("gone", -27, starting=False))
    assert isinstance(error, LimitExceeded)
    assert error.numbers == {"limit_s": 2.0}
