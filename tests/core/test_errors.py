from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from apportion.core import errors
from apportion.core.errors import ApportionError, BadFile, NotFound, Truncated, UsageError, closest, unknown


def all_classes(root: type[ApportionError] = ApportionError) -> list[type[ApportionError]]:
    return [root, *(below for child in root.__subclasses__() for below in all_classes(child))]


def ours() -> list[type[ApportionError]]:
    return [cls for cls in all_classes() if cls.__module__ == errors.__name__]


def test_an_error_reads_as_what_why_numbers_and_hint_in_that_order() -> None:
    error = BadFile("model.gguf is damaged", "an offset is too large", "pull it again", offset=9, size=4)
    assert str(error) == (
        "model.gguf is damaged: an offset is too large (offset=9, size=4). Hint: pull it again"
    )


def test_an_error_without_reason_or_hint_reads_as_what_alone() -> None:
    assert str(NotFound("no such file")) == "no such file"


def test_numbers_of_every_kind_become_json() -> None:
    error = ApportionError(
        "w",
        count=np.int64(3),
        share=np.float32(0.5),
        flag=np.bool_(True),
        nan=float("nan"),
        infinite=float("-inf"),
        path=Path("a/b"),
        shape=(np.int32(1), 2),
        names={"x"},
        table={1: Path("c")},
        nothing=None,
        yes=True,
        huge=2**80,
    )
    numbers = json.loads(json.dumps(error.to_dict(), allow_nan=False))["numbers"]
    assert numbers == {
        "count": 3,
        "share": 0.5,
        "flag": "True",
        "nan": "nan",
        "infinite": "-inf",
        "path": "a/b",
        "shape": [1, 2],
        "names": ["x"],
        "table": {"1": "c"},
        "nothing": None,
        "yes": True,
        "huge": 2**80,
    }


def test_to_dict_carries_the_code_and_every_part() -> None:
    assert UsageError("what", "why", "hint").to_dict() == {
        "code": "usage",
        "what": "what",
        "why": "why",
        "hint": "hint",
        "numbers": {},
    }


def test_wrong_usage_exits_with_2_and_everything_else_with_1() -> None:
    statuses = {cls: cls.exit_status for cls in ours()}
    assert {cls for cls, status in statuses.items() if status == 2} == {UsageError}
    assert set(statuses.values()) == {1, 2}


def test_codes_are_unique() -> None:
    codes = [cls.code for cls in ours()]
    assert len(set(codes)) == len(codes) == len(ours())


def test_a_truncated_file_is_a_bad_file() -> None:
    with pytest.raises(BadFile):
        raise Truncated("it ends too early")


@pytest.mark.parametrize("name", ["threds", "THREADS", "thread"])
def test_closest_finds_the_probable_meaning(name: str) -> None:
    assert closest(name, ["offline", "threads"]) == "threads"


def test_closest_treats_dash_and_underscore_alike() -> None:
    assert closest("models-dri", ["models_dir"]) == "models_dir"


def test_closest_does_not_guess_wildly() -> None:
    assert closest("zebra", ["offline", "threads"]) is None


def test_unknown_suggests_the_closest_choice() -> None:
    error = unknown("policy", "lur", ["lru", "fcfs"])
    assert isinstance(error, NotFound)
    assert error.hint == "did you mean 'lru'?"


def test_unknown_lists_the_choices_when_none_is_close() -> None:
    error = unknown("policy", "zebra", ["lru", "fcfs"], UsageError)
    assert isinstance(error, UsageError)
    assert error.hint == "choose one of: fcfs, lru"


def test_unknown_without_choices_has_no_hint() -> None:
    assert unknown("policy", "lru", []).hint == ""
