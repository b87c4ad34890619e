"""`apportion probe`: tables, the documented object, the saved profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from apportion.bench import disk, kernels, limits, product_rates
from apportion.bench import probe as bench_probe
from apportion.core.units import GiB, MiB
from apportion.hardware.memory import MemoryLimits
from apportion.hardware.profile import Profile, load_profile, profile_path, save_profile
from apportion.hardware.storage import file_system


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "TURN_S", 0.0)
    monkeypatch.setattr(disk, "ROUNDS", 1)
    monkeypatch.setattr(limits, "STREAM_NBYTES", 1 << 20)
    monkeypatch.setattr(product_rates, "COLD_NBYTES", 64 << 10)
    monkeypatch.setattr(product_rates, "SHAPE", (32, 256))
    monkeypatch.setattr(kernels, "MIN_SECONDS", 0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "notes.txt").write_bytes(bytes(100))
    with (folder / "model.gguf").open("wb") as stream:
        stream.truncate(16 * MiB)
    return folder


def test_json_is_the_profile_that_is_saved_for_the_device(apportion, folder: Path) -> None:
    found = apportion("probe", folder / "model.gguf", "--threads", 1, "--json").object
    assert found["threads"] == 1
    profile = load_profile(file_system(folder).device)
    assert Profile.from_dict(found) == profile
    assert profile.disk is not None
    assert profile.disk.file_nbytes == 16 * MiB


def test_the_tables_tell_machine_and_disk(apportion, folder: Path) -> None:
    outcome = apportion("probe", folder, "--threads", 2, "--no-save")
    assert "container limit" in outcome.out
    assert "memory, 2 threads" in outcome.out
    assert "one token, GB/s" in outcome.out
    assert "4 MiB, 8 at once, beside computing" in outcome.out
    assert not profile_path(file_system(folder).device).exists()


@pytest.mark.parametrize("empty", [True, False])
def test_without_a_model_the_disk_is_left_out_and_said_so(apportion, tmp_path: Path, empty: bool) -> None:
    if not empty:
        (tmp_path / "small").write_bytes(bytes(100))
    outcome = apportion("probe", tmp_path)
    assert "name a model file" in outcome.out
    assert load_profile(None).disk is None


def test_a_file_that_is_too_small_or_missing_is_an_error(apportion, tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(bytes(100))
    outcome = apportion("probe", tmp_path / "small")
    assert outcome.status == 1
    assert "too small" in outcome.err
    assert apportion("probe", tmp_path / "none").status == 2


def test_a_container_shows_with_what_is_left_of_it(
    apportion, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = MemoryLimits(16 * GiB, 9 * GiB, 4 * GiB, 3 * GiB)
    monkeypatch.setattr(bench_probe, "memory_limits", lambda: limits)
    out = apportion("probe", folder, "--threads", 1, "--no-save").out
    assert "4 GiB, 3 GiB left" in out


def test_notes_of_the_reader_are_shown(apportion, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk.Reader, "notes", ("slower than it could be",))
    assert "slower than it could be" in apportion("probe", folder, "--threads", 1, "--no-save").out


def test_a_profile_that_cannot_be_saved_is_shown_all_the_same(
    apportion, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(profile: Profile) -> Path:
        raise PermissionError(13, "not here")

    monkeypatch.setattr(f"{save_profile.__module__}.save_profile", refuse)
    outcome = apportion("probe", folder, "--threads", 1)
    assert outcome.status == 0
    assert "not here" in outcome.err
    assert "at once" in outcome.out
