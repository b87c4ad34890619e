"""Disk rates: every way has its turns, places do not come twice, and small files are refused."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from apportion.bench import disk, limits
from apportion.bench.disk import ALONE, BESIDE, Places, largest_file, measure_disk
from apportion.core.claim import Tier
from apportion.core.errors import BadFile, DoesNotFit
from apportion.core.units import KiB, MiB
from apportion.memory import Ledger


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "TURN_S", 0.0)
    monkeypatch.setattr(disk, "ROUNDS", 2)
    monkeypatch.setattr(limits, "STREAM_NBYTES", 1 << 20)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    with path.open("wb") as stream:
        stream.truncate(16 * MiB + 5)
    return path


def test_every_way_is_measured_and_the_range_holds_its_median(path: Path) -> None:
    ledger = Ledger({Tier.RAM: 64 * MiB})
    profile = measure_disk(path, ledger, threads=1, seed=3)
    ways = [(rate.block_nbytes, rate.depth, rate.beside) for rate in profile.rates]
    assert ways == [(way.block_nbytes, way.depth, way.beside) for way in (*ALONE, *BESIDE)]
    for rate in profile.rates:
        assert 0 < rate.GBps.min <= rate.GBps.median <= rate.GBps.max
    assert profile.file_nbytes == 16 * MiB + 5
    assert profile.backend in ("ring", "threads")
    account = ledger.account().tiers[Tier.RAM]
    assert (account.used, account.peak) == (0, 32 * MiB)


def test_a_file_that_is_too_small_says_so(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(bytes(1000))
    with pytest.raises(BadFile, match="16 MiB"):
        measure_disk(small, Ledger({Tier.RAM: 64 * MiB}), threads=1)


def test_buffers_are_paid_for(path: Path) -> None:
    with pytest.raises(DoesNotFit):
        measure_disk(path, Ledger({Tier.RAM: MiB}), threads=1)


@pytest.mark.parametrize("nbytes", [4 * KiB, 64 * KiB, MiB, 4 * MiB])
def test_no_place_comes_twice_before_all_have_been(nbytes: int) -> None:
    file_nbytes = 80 * MiB + 123
    count = 20 * (4 * MiB // max(nbytes, 64 * KiB))
    offsets = list(islice(Places(file_nbytes, 4 * MiB, seed=1).blocks(nbytes), count))
    assert len(set(offsets)) == count
    assert offsets != sorted(offsets)
    assert all(offset % nbytes == 0 and offset + nbytes <= file_nbytes for offset in offsets)


def test_places_go_on_from_one_way_to_the_next_and_differ_between_runs() -> None:
    places = Places(400 * MiB, 4 * MiB, seed=1)
    first = set(islice(places.blocks(4 * MiB), 16))
    assert not first & set(islice(places.blocks(4 * MiB), 16))
    other = Places(400 * MiB, 4 * MiB, seed=2)
    assert first != set(islice(other.blocks(4 * MiB), 16))


def test_the_largest_file_of_a_folder_is_found_at_any_depth(tmp_path: Path) -> None:
    assert largest_file(tmp_path) is None
    (tmp_path / "a").write_bytes(bytes(10))
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "deep/er/b").write_bytes(bytes(20))
    (tmp_path / "broken").symlink_to(tmp_path / "none")
    assert largest_file(tmp_path) == tmp_path / "deep/er/b"
