from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from apportion.cli import main
from apportion.core.settings import SETTINGS


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APPORTION_THREADS", "3")
    (tmp_path / "apportion.toml").write_text("offline = true")


@pytest.mark.parametrize("words", [["config"], ["config", "show"]])
def test_each_value_is_shown_with_its_origin(words: list[str]) -> None:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0
    lines = {line.split()[0]: " ".join(line.split()) for line in result.stdout.splitlines() if line.strip()}
    assert lines["threads"].startswith("threads 3 environment:")
    assert lines["offline"].startswith("offline true file:")
    assert lines["isa"].startswith("isa - default")
    assert set(SETTINGS) <= set(lines)


@pytest.mark.parametrize(
    "words", [["config", "--json"], ["config", "show", "--json"], ["config", "--json", "show"]]
)
def test_json_is_one_object_with_every_setting(words: list[str]) -> None:
    report = json.loads(CliRunner().invoke(main, words).stdout)
    assert set(report["settings"]) == set(SETTINGS)
    threads = report["settings"]["threads"]
    assert (threads["value"], threads["origin"], threads["place"]) == (3, "environment", "APPORTION_THREADS")
    assert [file["exists"] for file in report["files"]] == [True, False]


def test_a_variable_that_is_no_setting_is_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPORTION_THREDS", "4")
    result = CliRunner().invoke(main, ["config"])
    assert "APPORTION_THREDS is set but is no setting; did you mean APPORTION_THREADS?" in result.stderr
    report = json.loads(CliRunner().invoke(main, ["config", "--json"]).stdout)
    assert report["unknown_variables"] == ["APPORTION_THREDS"]


def test_a_bad_value_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPORTION_THREADS", "many")
    result = CliRunner().invoke(main, ["config", "--json"])
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["code"] == "usage"


def test_values_are_shown_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPORTION_MODELS_DIR", "/models/[bold]/:bomb:")
    assert "/models/[bold]/:bomb:" in CliRunner().invoke(main, ["config"]).stdout
