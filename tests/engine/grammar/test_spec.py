"""What may be asked of an answer's form, before anything is compiled."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from apportion.core.errors import LimitExceeded, UsageError
from apportion.engine import SamplingParams
from apportion.engine.grammar import Spec, spec_of


def nested(depth: int) -> dict:
    schema: dict = {}
    for _ in range(depth - 1):
        schema = {"items": schema}
    return schema


def test_a_schema_given_as_object_or_as_text_is_the_same_specification() -> None:
    schema = {"type": "object", "properties": {"é": {"type": "string"}}}
    as_object = spec_of(SamplingParams(json_schema=schema))
    assert as_object == spec_of(SamplingParams(json_schema=json.dumps(schema, indent=3)))
    assert as_object == Spec("json_schema", '{"type":"object","properties":{"é":{"type":"string"}}}')


def test_each_form_becomes_a_specification_and_none_is_none() -> None:
    assert spec_of(SamplingParams()) is None
    assert spec_of(SamplingParams(regex="a+")) == Spec("regex", "a+")
    assert spec_of(SamplingParams(grammar='start: "a"')) == Spec("grammar", 'start: "a"')
    assert spec_of(SamplingParams(json_object=True)) == Spec("json_schema", '{"type":"object"}')
    assert spec_of(SamplingParams(json_schema=True)) == Spec("json_schema", "{}")


def test_parameters_stay_hashable_and_completed_keeps_the_form() -> None:
    params = SamplingParams(json_schema={"type": "integer"})
    assert hash(params) == hash(SamplingParams(json_schema='{"type":"integer"}'))
    assert params.completed(SamplingParams(temperature=0)).json_schema == '{"type":"integer"}'


@pytest.mark.parametrize(
    "forms",
    [
        {"regex": "a", "grammar": "b"},
        {"json_object": True, "json_schema": {}},
        {"json_schema": {}, "regex": ""},
    ],
)
def test_two_forms_exclude_each_other(forms: dict) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        SamplingParams(**forms)


def test_a_form_and_ignore_eos_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="ignore_eos and regex"):
        SamplingParams(regex="a", ignore_eos=True)


@pytest.mark.parametrize(
    "schema",
    [
        "",
        "{",
        "[1]",
        "3",
        '"type"',
        "{} {}",
        '{"a":1,"a":2}',
        "NaN",
        3,
        [],
        {"a": {1, 2}},
        {"a": float("nan")},
        "\ud800",
    ],
)
def test_what_is_no_schema_is_refused(schema: object) -> None:
    with pytest.raises(UsageError):
        SamplingParams(json_schema=schema)


@pytest.mark.parametrize("name", ["regex", "grammar"])
@pytest.mark.parametrize("value", [3, b"a", "\udfff"])
def test_what_is_no_text_is_refused(name: str, value: object) -> None:
    with pytest.raises(UsageError):
        SamplingParams(**{name: value})


@pytest.mark.parametrize(
    ("name", "fits", "too_long"),
    [
        ("regex", "a" * 4096, "a" * 4097),
        ("regex", "é" * 2048, "é" * 2049),
        ("grammar", "#" * 65536, "#" * 65537),
        ("json_schema", '"' + "x" * 10, '{"title":"' + "x" * 65536 + '"}'),
    ],
)
def test_texts_are_bounded(name: str, fits: str, too_long: str) -> None:
    if name != "json_schema":
        SamplingParams(**{name: fits})
    with pytest.raises(LimitExceeded) as caught:
        SamplingParams(**{name: too_long})
    assert caught.value.numbers["nbytes"] > caught.value.numbers["limit"]


def test_the_depth_of_a_schema_is_bounded() -> None:
    SamplingParams(json_schema=nested(32))
    for schema in (nested(33), json.dumps(nested(33)), "[" * 60_000, nested(900)):
        with pytest.raises(LimitExceeded):
            SamplingParams(json_schema=schema)


def test_a_schema_without_bottom_is_refused() -> None:
    endless: dict = {}
    endless["items"] = endless
    with pytest.raises((LimitExceeded, UsageError)):
        SamplingParams(json_schema=endless)


def test_the_engine_does_not_import_llguidance() -> None:
    code = "import sys, apportion.engine; sys.exit('llguidance' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
