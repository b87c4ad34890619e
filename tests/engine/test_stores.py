"""The stores that a person asks for, by size, folder and address."""

from __future__ import annotations

from pathlib import Path

import pytest

from apportion.core.errors import UsageError
from apportion.engine.prefix.keys import fingerprint
from apportion.engine.store import KvStore, RemoteStore, TieredStore
from apportion.engine.stores import open_stores

IDENTITY = fingerprint("model", "tokenizer", "layout")
SIZE = 1 << 20


def test_nothing_is_opened_where_nothing_is_asked_for(tmp_path: Path) -> None:
    assert open_stores(IDENTITY, 4096, folder=tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_every_model_has_a_folder_of_its_own(tmp_path: Path) -> None:
    stores = [
        open_stores(fingerprint(name, "t", "l"), 4096, disk_nbytes=SIZE, folder=tmp_path) for name in "ab"
    ]
    assert len(list(tmp_path.iterdir())) == 2
    for store in stores:
        assert isinstance(store, KvStore)
        assert store.takes_writes
        assert store.close()


def test_a_folder_that_another_writes_to_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = open_stores(IDENTITY, 4096, disk_nbytes=SIZE, folder=tmp_path)
    second = open_stores(IDENTITY, 4096, disk_nbytes=SIZE, folder=tmp_path)
    assert isinstance(first, KvStore)
    assert isinstance(second, KvStore)
    assert not second.takes_writes
    assert "nothing is added" in caplog.text
    assert second.close()
    assert first.close()


def test_an_address_adds_the_server_that_it_names(tmp_path: Path) -> None:
    pytest.importorskip("redis")
    alone = open_stores(IDENTITY, 4096, remote="redis://127.0.0.1:1/0")
    both = open_stores(IDENTITY, 4096, disk_nbytes=SIZE, folder=tmp_path, remote="redis://127.0.0.1:1/0")
    assert isinstance(alone, RemoteStore)
    assert isinstance(both, TieredStore)
    assert alone.close()
    assert both.close()


def test_a_wrong_address_leaves_no_store_open(tmp_path: Path) -> None:
    pytest.importorskip("redis")
    with pytest.raises(UsageError):
        open_stores(IDENTITY, 4096, disk_nbytes=SIZE, folder=tmp_path, remote="http://nowhere")
    again = open_stores(IDENTITY, 4096, disk_nbytes=SIZE, folder=tmp_path)
    assert isinstance(again, KvStore)
    assert again.takes_writes
    assert again.close()
