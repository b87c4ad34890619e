"""The house holds: layers, sizes, words, and how light the package is."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "apportion"
MODULES = sorted(SOURCE.rglob("*.py"))
TEXT_SUFFIXES = {".py", ".md", ".toml", ".yml", ".yaml", ".cpp", ".h", ".hpp", ".txt", ".sh", ""}
RUNS = 7

# Processor time, of which the clock shows as much on a machine that has nothing else to do.
IMPORT = "from time import process_time as now; t = now(); import apportion; print(now() - t)"
# VmHWM and not getrusage: that one keeps what the process weighed before it became this program.
IDLE = "import apportion, re; print(re.search('VmHWM:\\s*(.*) kB', open('/proc/self/status').read())[1])"
HELP = """
import os, subprocess, sys
subprocess.run([sys.executable, "-m", "apportion", "--help"], check=True, stdout=subprocess.DEVNULL)
spent = os.times()
print(spent.children_user + spent.children_system)
"""


def printed(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def best_s(code: str) -> float:
    """The least of several runs."""
    return min(float(printed(code)) for _ in range(RUNS))


def tracked_files() -> list[Path]:
    """Every text file of the project, as git knows it; outside of git, the source and the tests."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = listed.stdout.split("\0") if listed.returncode == 0 else []
    files = [ROOT / name for name in names if name] or [*MODULES, *(ROOT / "tests").rglob("*.py")]
    return [path for path in files if path.suffix in TEXT_SUFFIXES and path.is_file()]


def test_import_takes_less_than_150_ms() -> None:
    assert best_s(IMPORT) < 0.150


def test_help_takes_less_than_300_ms() -> None:
    assert best_s(HELP) < 0.300


def test_the_idle_process_stays_below_80_mib() -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc to tell the peak of a process")
    assert int(printed(IDLE)) < 80 * 1024  # KiB


def test_importing_the_package_imports_neither_numpy_nor_the_engine() -> None:
    loaded = printed("import apportion, sys; print(*sys.modules)").split()
    assert not {"numpy", "click", "jinja2", "apportion.engine", "torch"} & set(loaded)


def test_help_imports_no_verb() -> None:
    code = (
        "import sys\nfrom apportion.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    print('loaded', *sys.modules)"
    )
    loaded = printed(code).rsplit("loaded", 1)[1].split()
    assert not [name for name in loaded if re.fullmatch(r"apportion\.cli\.[a-z].*|numpy|rich", name)]


def test_nothing_of_torch_is_imported_by_the_engine() -> None:
    loaded = printed("import apportion.engine, sys; print(*sys.modules)").split()
    assert not {"torch", "transformers", "gguf", "safetensors"} & set(loaded)


def test_the_import_contracts_hold() -> None:
    if not (Path(sys.executable).parent / "lint-imports").exists():
        pytest.skip("needs import-linter: install the extra `check`")
    outcome = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert outcome.returncode == 0, outcome.stdout


def test_every_package_stands_in_the_layers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = " ".join(project["tool"]["importlinter"]["contracts"][0]["layers"])
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert packages == set(re.findall(r"apportion\.(\w+)", layers))


def test_jinja2_is_imported_by_one_module_only() -> None:
    importers = {path.relative_to(SOURCE).as_posix() for path in MODULES if "jinja2" in imported(path)}
    assert len(importers) == 1, importers
    assert all(name.startswith("text/") for name in importers)


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("module", ["pickle", "torch", "transformers", "gguf"])
def test_the_package_never_imports(module: str) -> None:
    assert not [path for path in MODULES if module in imported(path)]


# Built from parts, so that this file does not contain them.
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
# A file of the machine on which something was written does not exist on the reader's.
MACHINE_PATH = re.compile(r"(?<![\w.~])/(home|root|Users|work|mnt|media)/[A-Za-z0-9._-]+/?")
ROOM_NAMES = re.compile(r"(^|_)(utils?|helpers?|managers?|handlers?|misc|common)(_|$)")


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked_files()
        for match in [MACHINE_PATH.search(path.read_text(encoding="utf-8"))]
        if match and path != Path(__file__)
    }
    assert not found


def test_nothing_is_left_for_later() -> None:
    found = [str(path) for path in tracked_files() if UNFINISHED.search(path.read_text(encoding="utf-8"))]
    assert not found


def test_no_module_is_named_after_nothing() -> None:
    assert not [path for path in MODULES if ROOM_NAMES.search(path.stem)]


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(SOURCE))
        for path in MODULES
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert printed("import apportion; print(apportion.__version__)").strip() == project["version"]
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_make_target_is_explained() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    explained = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    assert set(phony[1].split()) == explained
