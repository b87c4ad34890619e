from __future__ import annotations

from pathlib import Path

import pytest

from apportion.bench import disk, kernels, limits, product_rates
from apportion.bench.probe import probe
from apportion.core.units import MiB
from apportion.formats.blocks import FORMATS
from apportion.hardware.profile import Profile


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "TURN_S", 0.0)
    monkeypatch.setattr(disk, "ROUNDS", 1)
    monkeypatch.setattr(limits, "STREAM_NBYTES", 1 << 20)
    monkeypatch.setattr(product_rates, "COLD_NBYTES", 64 << 10)
    monkeypatch.setattr(product_rates, "SHAPE", (32, 256))
    monkeypatch.setattr(kernels, "MIN_SECONDS", 0.0)


def test_a_probe_measures_memory_arithmetic_and_the_disk_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    with file.open("wb") as stream:
        stream.truncate(16 * MiB)
    stages: list[str] = []
    profile = probe(file, 2, stages.append)
    assert stages == ["memory", "arithmetic", "products", "disk"]
    assert sorted(profile.memory_GBps) == [1, 2]
    assert set(profile.peak_GOps) == {"int8", "bf16", "f32"}
    assert min(*profile.memory_GBps.values(), *profile.peak_GOps.values()) > 0
    assert set(profile.products) == {name for name, found in FORMATS.items() if found.native}
    assert min(min(r.matvec_GBps, r.matmat_GOps) for r in profile.products.values()) > 0
    assert profile.memory.free > 0
    assert profile.disk is not None
    assert Profile.from_dict(profile.to_dict()) == profile


def test_without_a_file_there_is_no_disk() -> None:
    profile = probe(None, 1)
    assert profile.disk is None
    assert list(profile.memory_GBps) == [1]
