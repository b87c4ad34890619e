"""Where figures come from."""

from __future__ import annotations

from pathlib import Path

import apportion
from apportion.bench.provenance import commit_of, processor_name, provenance

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def work_tree(folder: Path, head: str) -> Path:
    git = folder / ".git"
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text(head + "\n")
    (folder / "src").mkdir()
    return folder / "src/file.py"


def test_it_names_machine_program_and_day() -> None:
    found = provenance()
    assert found.processor
    assert found.processors >= 1
    assert found.isas[-1] == "portable"
    assert found.version == apportion.__version__
    assert found.date.endswith("Z")
    assert found.load_average >= 0


def test_the_commit_is_that_of_the_branch(tmp_path: Path) -> None:
    path = work_tree(tmp_path, "ref: refs/heads/main")
    (tmp_path / ".git/refs/heads/main").write_text(COMMIT + "\n")
    assert commit_of(path) == COMMIT[:12]


def test_the_commit_may_be_packed_or_stand_in_head_itself(tmp_path: Path) -> None:
    path = work_tree(tmp_path / "packed", "ref: refs/heads/main")
    (tmp_path / "packed/.git/packed-refs").write_text(f"# pack-refs\n{COMMIT} refs/heads/main\n")
    assert commit_of(path) == COMMIT[:12]
    assert commit_of(work_tree(tmp_path / "detached", COMMIT)) == COMMIT[:12]


def test_without_a_work_tree_or_a_commit_there_is_none(tmp_path: Path) -> None:
    assert commit_of(tmp_path / "file.py") == ""
    assert commit_of(work_tree(tmp_path / "empty", "ref: refs/heads/main")) == ""


def test_the_processor_is_named_as_the_system_has_it(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Abacus 3000\n")
    assert processor_name(cpuinfo) == "Abacus 3000"
    assert processor_name(tmp_path / "none")
