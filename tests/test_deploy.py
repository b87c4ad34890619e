"""The unit for systemd and the container's file: well-formed, closed, and words that the program knows."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.executed import ROOT

from apportion.cli.serve import command

UNIT = ROOT / "deploy" / "apportion.service"
CONTAINER = ROOT / "deploy" / "Containerfile"
OPTIONS = {word for param in command.params for word in param.opts}
SECRET = re.compile(r"key|secret|token|password", re.IGNORECASE)


def settings(section: str) -> list[tuple[str, str]]:
    """Names and values of a section of the unit."""
    (body,) = re.findall(rf"^\[{section}\]\n(.*?)(?=^\[|\Z)", UNIT.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line for line in body.splitlines() if line and not line.startswith("#")]
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


def instructions() -> list[tuple[str, str]]:
    """Instructions of the container's file, in order."""
    lines = [line for line in CONTAINER.read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def values(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


def known_options(words: list[str]) -> list[str]:
    return [word for word in words if word.startswith("--") and word not in OPTIONS]


# --- systemd ---


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace("/opt/apportion/bin/apportion", "/bin/true"))
    outcome = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, timeout=60)
    if "Failed to" in outcome.stderr and "manager" in outcome.stderr:
        pytest.skip(f"systemd-analyze does not work here: {outcome.stderr.strip()[:200]}")
    assert (outcome.returncode, outcome.stderr) == (0, "")


def test_the_unit_starts_the_server_with_words_that_it_knows() -> None:
    words = shlex.split(dict(settings("Service"))["ExecStart"])
    assert words[0].startswith("/")
    assert words[1] == "serve"
    assert known_options(words) == []


def test_the_unit_gives_the_server_nothing_that_it_does_not_need() -> None:
    given = dict(settings("Service"))
    yes = (
        "DynamicUser NoNewPrivileges PrivateTmp PrivateDevices ProtectHome ProtectKernelModules "
        "RestrictNamespaces MemoryDenyWriteExecute LockPersonality"
    )
    assert {given[name] for name in yes.split()} == {"yes"}
    assert given["ProtectSystem"] == "strict"
    assert given["CapabilityBoundingSet"] == ""
    assert not any(SECRET.search(value) for name, value in settings("Service") if name == "Environment")


def test_the_unit_waits_for_ready_and_for_answers_to_end() -> None:
    given = dict(settings("Service"))
    drain = next(param.default for param in command.params if "--drain" in param.opts)
    assert given["Type"] == "notify"
    assert int(given["TimeoutStopSec"]) > drain
    assert given["ExecReload"].endswith("-HUP $MAINPID")


# --- container ---


def test_bases_are_pinned_by_version_and_one_for_all_stages() -> None:
    bases = {base.split(" ")[0] for base in values("FROM")}
    (base,) = bases
    (argument,) = values("ARG")
    name, version = argument.split("=")
    assert re.fullmatch(r"3\.\d+", version)
    assert re.fullmatch(r"docker\.io/library/python:[\w.-]+", base.replace(f"${{{name}}}", version))
    assert "latest" not in base


def test_the_program_runs_as_nobody_in_particular_and_without_a_shell() -> None:
    assert int(values("USER")[-1]) > 0
    order = [name for name, _ in instructions()]
    assert order.index("USER") < order.index("ENTRYPOINT")
    entry, words = (json.loads(values(name)[-1]) for name in ("ENTRYPOINT", "CMD"))
    assert entry[:2] == ["apportion", "serve"]
    assert known_options(entry + words) == []
    (health,) = values("HEALTHCHECK")
    assert "/health" in json.loads(health.partition("CMD ")[2])[-1]


def test_the_image_holds_no_secret_and_what_is_copied_exists() -> None:
    for name in ("ENV", "ARG"):
        assert not any(SECRET.search(value) for value in values(name))
    assert not values("ADD")
    for copied in values("COPY"):
        *sources, _ = [word for word in copied.split() if not word.startswith("--")]
        if "--from=" not in copied:
            assert all((ROOT / source).exists() for source in sources), copied
    assert (ROOT / "docs" / "deploy.md").exists()


def test_lists_of_packages_do_not_stay_in_the_image() -> None:
    for run in values("RUN"):
        if "apt-get install" in run:
            assert "--no-install-recommends" in run
            assert "rm -rf /var/lib/apt/lists/*" in run
