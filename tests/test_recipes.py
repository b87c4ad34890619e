"""The recipes for clients: what they show runs, with the real packages, against a server of a tiny model."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.executed import ROOT
from tests.serve.running import Running, config_for, running

from apportion.serve import ModelSpec

PAGE = ROOT / "docs" / "recipes.md"
ADDRESS = "http://127.0.0.1:8080"
BLOCK = re.compile(
    r"^<!-- recipe: (?P<needs>\w+) -->\n```(?P<language>\w+)\n(?P<code>.*?)\n```$", re.DOTALL | re.MULTILINE
)
RECIPES = [match.groupdict() for match in BLOCK.finditer(PAGE.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A tiny model under the name that the recipes use."""
    config = config_for(tmp_path_factory.mktemp("models"))
    model = ModelSpec("smollm2", config.models[0].reference)
    with running(replace(config, models=(model,))) as one:
        yield one


def is_installed(needs: str) -> bool:
    return importlib.util.find_spec(needs) is not None or shutil.which(needs) is not None


def run(language: str, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", code] if language == "python" else ["bash", "-euo", "pipefail", "-c", code]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "LLM_USER_PATH": str(folder), "PYTHONUTF8": "1"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=110)


@pytest.mark.parametrize(
    "recipe", RECIPES, ids=lambda one: f"{one['needs']}-{one['code'].count(chr(10)) + 1}-lines"
)
def test_every_recipe_runs(recipe: dict[str, str], server: Running, tmp_path: Path) -> None:
    if not is_installed(recipe["needs"]):
        pytest.skip(f"needs {recipe['needs']}: install the extra `test`")
    assert ADDRESS in recipe["code"]
    outcome = run(recipe["language"], recipe["code"].replace(ADDRESS, server.url), tmp_path)
    assert outcome.returncode == 0, outcome.stderr[-4000:]
    assert outcome.stdout.strip()
    assert '"error"' not in outcome.stdout


def test_the_page_has_a_recipe_for_every_client_that_is_promised() -> None:
    assert {one["needs"] for one in RECIPES} == {"curl", "openai", "anthropic", "llm", "langchain_openai"}


def test_no_recipe_names_another_address() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"https?://(?:127\.0\.0\.1|localhost)[:\w]*", text)) == {ADDRESS}
