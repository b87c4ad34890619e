"""Tasks as `lm-eval` reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from apportion.bench.tasks.export import export_task
from apportion.bench.tasks.items import Item, Task


@pytest.mark.parametrize(
    ("item", "fields", "kind"),
    [
        (Item(("c",), ("a", "b"), 1), {"context": "c", "choices": ["a", "b"], "gold": 1}, "multiple_choice"),
        (
            Item(("c", "d"), ("a",), 0),
            {"contexts": ["c", "d"], "continuation": "a", "gold": 0},
            "multiple_choice",
        ),
        (Item(("c",), ("ä",), None), {"context": "c", "continuation": " ä"}, "loglikelihood"),
    ],
)
def test_a_task_is_a_description_and_its_items(item: Item, fields: dict, kind: str, tmp_path: Path) -> None:
    assert export_task(Task("x", [item, item]), tmp_path) == "apportion_x"
    written = (tmp_path / "apportion_x.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in written] == [fields, fields]
    described = (tmp_path / "apportion_x.yaml").read_text("utf-8")
    values = dict(line.split(": ", 1) for line in described.splitlines() if ": " in line)
    assert values["task"] == "apportion_x"
    assert values["output_type"] == kind
    assert json.loads(values["    test"]) == str(tmp_path / "apportion_x.jsonl")
    assert values["target_delimiter"] == '" "'
    # Whatever is named after doc_to_ is a field of the items.
    named = [value for name, value in values.items() if name.startswith("doc_to_")]
    assert set(named) <= set(fields)
