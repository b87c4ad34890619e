"""The store that machines share, against a real `redis-server`; what needs none runs everywhere."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.engine.store.house import BLOCK_NBYTES, FINGERPRINT, Block, chain, config, store

from apportion.core.clock import RealClock, VirtualClock
from apportion.core.errors import UsageError
from apportion.engine.prefix.keys import fingerprint
from apportion.engine.store import RemoteConfig, RemoteStore, TieredStore

pytest.importorskip("redis")
BLOCKS = chain(1, 12)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A `redis-server` that keeps nothing."""

    def __init__(self, program: str, folder: Path) -> None:
        self.port = free_port()
        quiet = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--dir", str(folder)]
        self._process = subprocess.Popen(
            [program, "--port", str(self.port), *quiet], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)
        raise TimeoutError("redis-server did not start")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("there is no redis-server here; Debian's package has that name")
    running = Server(program, tmp_path)
    yield running
    running.stop()


def remote(url: str, clock: VirtualClock | None = None, **changes: object) -> RemoteStore:
    settings: dict[str, object] = {"fingerprint": FINGERPRINT, "block_nbytes": BLOCK_NBYTES, "call_s": 5.0}
    settings |= {"look_up_s": 5.0} | changes
    return RemoteStore(RemoteConfig(url, **settings), clock or RealClock())  # type: ignore[arg-type]


def put(kept: RemoteStore | TieredStore, block: Block) -> bool:
    return kept.put(block.key, block.parent, block.num_before, block.ids, block.payload)


def get(kept: RemoteStore | TieredStore, block: Block) -> bool:
    buffer = np.full(BLOCK_NBYTES, 0xEE, np.uint8)
    found = kept.read_into(block.key, buffer)
    assert np.array_equal(buffer, block.payload) if found else (buffer == 0xEE).all()
    return found


def test_what_one_machine_put_another_reads(server: Server) -> None:
    one, other = remote(server.url), remote(server.url)
    for block in BLOCKS:
        assert put(one, block)
    assert one.flush()
    assert all(get(other, block) for block in BLOCKS)
    assert other.counters.hits == 12
    assert one.counters.written == 12
    assert one.close()
    assert other.close()


def test_what_is_there_is_asked_for_at_once_and_remembered(server: Server) -> None:
    clock = VirtualClock()
    one, other = remote(server.url), remote(server.url, clock)
    for block in BLOCKS[:6]:
        put(one, block)
    one.flush()
    keys = [block.key for block in BLOCKS]
    assert not other.contains(keys[0]), "nothing is known before it was asked for"
    other.look_up(keys)
    assert [other.contains(key) for key in keys] == [True] * 6 + [False] * 6
    for block in BLOCKS[6:]:
        put(one, block)
    one.flush()
    other.look_up(keys)
    assert not other.contains(keys[7]), "what was found out a moment ago is not asked again"
    clock.advance(6.0)
    assert not other.contains(keys[0])
    other.look_up(keys)
    assert all(other.contains(key) for key in keys)
    one.close()
    other.close()


def test_a_block_is_not_sent_twice(server: Server) -> None:
    one, other = remote(server.url), remote(server.url)
    for kept in (one, other, one):
        put(kept, BLOCKS[0])
        kept.flush()
    assert one.counters.written == 1
    assert one.counters.duplicates == 1
    assert (other.counters.written, other.counters.duplicates) == (0, 1)
    one.close()
    other.close()


def test_another_model_finds_nothing(server: Server) -> None:
    one = remote(server.url)
    other = remote(server.url, fingerprint=fingerprint("other", "t", "l"))
    put(one, BLOCKS[0])
    one.flush()
    assert not get(other, BLOCKS[0])
    one.close()
    other.close()


@pytest.mark.parametrize("damage", ["flip", "cut", "swap", "empty", "header"])
def test_what_was_damaged_or_swapped_is_a_miss(server: Server, damage: str) -> None:
    import redis

    kept = remote(server.url)
    for block in BLOCKS[:2]:
        put(kept, block)
    kept.flush()
    client = redis.Redis(port=server.port)
    name, other = (kept._name(block.key) for block in BLOCKS[:2])
    value = client.get(name)
    assert isinstance(value, bytes)
    changed = {
        "flip": value[:5000] + bytes([value[5000] ^ 1]) + value[5001:],
        "cut": value[:-1],
        "swap": client.get(other),
        "empty": b"",
        "header": bytes(100) + value[100:],
    }[damage]
    assert isinstance(changed, bytes)
    client.set(name, changed)
    assert not get(kept, BLOCKS[0])
    assert kept.counters.corrupt == 1
    assert get(kept, BLOCKS[1])
    client.close()
    kept.close()


def test_blocks_expire(server: Server) -> None:
    import redis

    kept = remote(server.url, expire_s=100)
    put(kept, BLOCKS[0])
    kept.flush()
    with redis.Redis(port=server.port) as client:
        assert 0 < client.ttl(kept._name(BLOCKS[0].key)) <= 100  # type: ignore[operator]
    kept.close()


def test_a_server_that_dies_becomes_misses_and_soon_costs_nothing(server: Server) -> None:
    clock = VirtualClock()
    kept = remote(server.url, clock)
    put(kept, BLOCKS[0])
    kept.flush()
    server.stop()
    assert not any(get(kept, block) for block in BLOCKS)
    assert kept.counters.faults == 3
    assert kept.counters.breaks == 1
    assert not put(kept, BLOCKS[1])
    assert not kept.contains(BLOCKS[0].key)
    clock.advance(31.0)
    assert not get(kept, BLOCKS[0])
    assert kept.counters.faults == 4
    kept.close()


def test_a_server_that_comes_back_is_used_again(server: Server, tmp_path: Path) -> None:
    clock = VirtualClock()
    kept = remote(server.url, clock)
    server.stop()
    for block in BLOCKS[:3]:
        assert not get(kept, block)
    program = shutil.which("redis-server")
    assert program is not None
    again = Server.__new__(Server)
    again.port, again.url = server.port, server.url
    again._process = subprocess.Popen(
        [program, "--port", str(server.port), "--save", "", "--bind", "127.0.0.1", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    again._wait()
    try:
        assert not put(kept, BLOCKS[0]), "it is left alone for a while"
        clock.advance(31.0)
        assert put(kept, BLOCKS[0])
        assert kept.flush()
        assert get(kept, BLOCKS[0])
    finally:
        again.stop()
        kept.close()


def test_a_disk_and_a_server_are_one_store(server: Server, tmp_path: Path) -> None:
    def tiered(folder: Path) -> TieredStore:
        return TieredStore(store(None, config(), RealClock(), folder), remote(server.url))

    one, other = tiered(tmp_path / "one"), tiered(tmp_path / "other")
    for block in BLOCKS:
        assert put(one, block)
    assert one.flush()
    other.look_up([block.key for block in BLOCKS])
    assert all(other.contains(block.key) for block in BLOCKS)
    for _ in range(2):
        assert all(get(other, block) for block in BLOCKS)
    assert other.remote.counters.hits == 12, "the second time it is read from the disk"
    assert len(other.local) + len(other.local._pending) == 12
    server.stop()
    assert all(get(one, block) for block in BLOCKS)
    assert one.close()
    assert other.close()


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}/0"


def test_a_server_that_does_not_answer_costs_three_short_waits(silent: str) -> None:
    kept = remote(silent, VirtualClock(), call_s=0.1, look_up_s=0.05)
    start = time.monotonic()
    for block in BLOCKS:
        assert not get(kept, block)
    kept.look_up([block.key for block in BLOCKS])
    assert time.monotonic() - start < 5.0
    assert kept.counters.faults == 3
    kept.close(timeout_s=0.1)


def test_a_server_that_trickles_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def trickle() -> None:
        connection, _ = listening.accept()
        with connection:
            while not ended.wait(0.02):
                try:
                    connection.sendall(b"$")
                except OSError:
                    return

    thread = threading.Thread(target=trickle, daemon=True)
    thread.start()
    kept = remote(f"redis://127.0.0.1:{listening.getsockname()[1]}/0", VirtualClock(), call_s=0.3)
    start = time.monotonic()
    assert not get(kept, BLOCKS[0])
    assert time.monotonic() - start < 5.0
    ended.set()
    kept.close(timeout_s=0.1)
    listening.close()


def test_a_queue_that_is_full_refuses(silent: str) -> None:
    kept = remote(silent, VirtualClock(), call_s=0.2, queue_nbytes=3 * BLOCK_NBYTES)
    taken = [put(kept, block) for block in BLOCKS]
    assert 3 <= sum(taken) <= 4
    assert kept.counters.refused_queue == 12 - sum(taken)
    kept.close(timeout_s=3.0)
    assert kept.counters.lost >= 1


@pytest.mark.parametrize("url", ["http://localhost", "redis//x", "redis://:secret@host:port/0"])
def test_a_url_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        remote(url)
    assert "secret" not in str(caught.value)


def test_without_the_client_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(UsageError, match=r"apportion\[redis\]"):
        remote("redis://localhost")
