"""The Grafana board that ships with the project asks for nothing that the server does not tell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apportion.serve.metrics import OWN
from apportion.serve.metrics.metric import Metric

BOARD = Path(__file__).resolve().parents[3] / "deploy/grafana/apportion.json"
SERIES = re.compile(r"(?P<name>[a-z][a-z0-9_]*_[a-z0-9_]+)(?P<labels>\{[^}]*\})?")
LABEL = re.compile(r"([a-z_]+)=~?\"")
GROUPED = re.compile(r"by \(([a-z_, ]+)\)")
LEGEND = re.compile(r"\{\{([a-z_]+)\}\}")
FUNCTIONS = {"histogram_quantile"}


def board() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(BOARD.read_text(encoding="utf-8"))
    return loaded


def targets() -> Iterator[dict[str, str]]:
    for panel in board()["panels"]:
        yield from panel.get("targets", ())


def known() -> dict[str, Metric]:
    """Every name that a series may have."""
    names = {}
    for metric in OWN:
        ends = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        names |= {metric.name + end: metric for end in ends}
    return names


@pytest.mark.parametrize("target", [*targets()], ids=lambda target: target["expr"][:60])
def test_every_query_is_of_metrics_and_labels_that_exist(target: dict[str, str]) -> None:
    plain = GROUPED.sub("", target["expr"])
    found = [match for match in SERIES.finditer(plain) if match["name"] not in FUNCTIONS]
    found = [match for match in found if match["name"].startswith("apportion_")]
    assert found
    for match in found:
        metric = known()[match["name"]]
        assert set(LABEL.findall(match["labels"] or "")) <= set(metric.labels)
        groups = {label.strip() for group in GROUPED.findall(target["expr"]) for label in group.split(",")}
        assert groups - {"le"} <= set(metric.labels)
        assert set(LEGEND.findall(target["legendFormat"])) <= (groups or set(metric.labels))


def test_panels_have_numbers_and_places_of_their_own() -> None:
    panels = board()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_the_variables_are_of_metrics_that_exist() -> None:
    queries = [one["definition"] for one in board()["templating"]["list"] if one["type"] == "query"]
    assert queries == ["label_values(apportion_model_state, model)"]
    assert "model" in known()["apportion_model_state"].labels
