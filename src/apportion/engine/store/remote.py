"""A store that machines share: a server that speaks Redis' protocol (Redis, Valkey).

A value is a record as on disk, header and payload, so that it is verified in the same way. Every call has a
deadline after which it counts as a miss, and after a few of those the server is left alone for a while.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from apportion.core.clock import Clock, RealClock
from apportion.core.errors import ApportionError, UsageError
from apportion.engine.store.breaker import Breaker
from apportion.engine.store.config import QUEUE_NBYTES
from apportion.engine.store.record import HEADER_NBYTES, Record, checksum, decode
from apportion.engine.store.staging import Bytes

if TYPE_CHECKING:
    from redis import Redis

T = TypeVar("T")
_CALLS = 4  # at once
_MOST_REMEMBERED = 1 << 16


@dataclass(frozen=True, slots=True)
class RemoteConfig:
    """
    Attributes:
        url: `redis://[[user]:password@]host[:port][/db]`, `rediss://` over TLS, or `unix://path`.
        fingerprint, block_nbytes: as a `StoreConfig`'s.
        look_up_s: for finding out what the server has, which the engine waits for; `call_s` for everything
            else.
        remember_s: what the server was found to have, or not, is not asked again for so long.
        expire_s: a block that was not written again for so long is gone from the server.
        queue_nbytes: memory for blocks on their way to the server.
    """

    url: str
    fingerprint: bytes
    block_nbytes: int
    look_up_s: float = 0.05
    call_s: float = 0.5
    remember_s: float = 5.0
    expire_s: int = 7 * 86_400
    queue_nbytes: int = QUEUE_NBYTES


@dataclass(slots=True)
class RemoteCounters:
    """Blocks unless they are called otherwise, since the store was opened: `faults` are calls that failed or
    came too late, `breaks` how often the server was left alone, `corrupt` what came and was not the block.
    """

    written: int = 0
    duplicates: int = 0
    refused_queue: int = 0
    refused_off: int = 0
    lost: int = 0
    hits: int = 0
    misses: int = 0
    corrupt: int = 0
    faults: int = 0
    breaks: int = 0
    nbytes_written: int = 0
    nbytes_read: int = 0


class RemoteStore:
    """Blocks by key on a server. After opening nothing raises; a server that is not there is a miss.

    Raises:
        UsageError: the client library is missing, or the URL is none.
    """

    def __init__(self, config: RemoteConfig, clock: Clock | None = None) -> None:
        self.config = config
        self.counters = RemoteCounters()
        self._clock = clock or RealClock()
        self._breaker = Breaker(self._clock)
        self._client = _client(config)
        self._threads = ThreadPoolExecutor(_CALLS, "remote-kv")
        self._known: dict[bytes, tuple[bool, float]] = {}  # is it there; until when is that said
        self._queue: deque[tuple[bytes, bytes]] = deque()
        self._queued_nbytes = 0
        self._is_writing = False
        self._is_closed = False
        self._changed = threading.Condition()
        self._writer = threading.Thread(target=self._write_on, name="write-remote-kv", daemon=True)
        self._writer.start()

    def look_up(self, keys: Sequence[bytes]) -> None:
        """Ask at once for all of these of which nothing is known; `contains` then tells without asking."""
        now = self._clock.now()
        asked = [key for key in keys if self._known.get(key, (False, 0.0))[1] <= now]
        if not asked or self._is_closed:
            return

        def ask(client: Redis) -> list[Any]:
            pipeline = client.pipeline(transaction=False)
            for key in asked:
                pipeline.exists(self._name(key))
            return list(pipeline.execute())

        found = self._call(ask, self.config.look_up_s)
        for key, is_there in zip(asked, found or [], strict=False):
            self._remember(key, bool(is_there))

    def contains(self, key: bytes) -> bool:
        """Whether the server had it when it was asked last; false while it is left alone."""
        is_there, until = self._known.get(key, (False, 0.0))
        return is_there and self._clock.now() < until and not self._breaker.is_open

    def put(
        self,
        key: bytes,
        parent: bytes,
        num_before: int,
        ids: npt.NDArray[np.int32],
        payload: Bytes,
        timeout_s: float = 0.0,
    ) -> bool:
        """Take a copy of a block and send it in a while; `KvStore.put` has the arguments. It never waits."""
        data = payload.reshape(-1).data
        if self._is_closed or self._breaker.is_open:
            self.counters.refused_off += 1
            return False
        if self.contains(key):
            self.counters.duplicates += 1
            return True
        if self._queued_nbytes + len(data) > self.config.queue_nbytes:
            self.counters.refused_queue += 1
            return False
        tokens, total = np.array(ids, np.int32), checksum(data)
        record = Record(
            0, self._clock.wall(), self.config.fingerprint, key, parent, num_before, tokens, len(data), total
        )
        with self._changed:
            self._queue.append((key, record.encode() + bytes(data)))
            self._queued_nbytes += len(data)
            self._changed.notify_all()
        return True

    def fetch(self, key: bytes) -> tuple[Record, Bytes] | None:
        """A block and its payload, verified; None for a miss of any kind."""
        value = self._call(lambda client: client.get(self._name(key)), self.config.call_s)
        found = self._verified(key, value) if isinstance(value, bytes) else None
        if found is None:
            self.counters.misses += 1
            self._remember(key, False)
            return None
        self.counters.hits += 1
        self.counters.nbytes_read += found[1].nbytes
        self._remember(key, True)
        return found

    def read_into(self, key: bytes, buffer: Bytes) -> bool:
        """Fill `buffer` [block_nbytes]; False for a miss of any kind, and `buffer` is then as it was."""
        found = self.fetch(key)
        if found is not None:
            buffer.reshape(-1)[:] = found[1]
        return found is not None

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Return when everything taken so far is on the server or lost; False when that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._is_writing, timeout_s)

    def close(self, timeout_s: float = 10.0) -> bool:
        """Send what was taken, and say good-bye; False when that did not go in time."""
        in_time = self.flush(timeout_s)
        with self._changed:
            self._is_closed = True
            self._queue.clear()
            self._changed.notify_all()
        self._client.connection_pool.disconnect()
        self._threads.shutdown(wait=False, cancel_futures=True)
        return in_time

    def _call(self, act: Callable[[Redis], T], timeout_s: float) -> T | None:
        """What `act` gives; None when it fails, comes too late, or is not tried."""
        if not self._breaker.allows():
            return None
        try:
            future = self._threads.submit(act, self._client)
            value = future.result(timeout_s)
        except Exception as error:  # of the client library, of the network, of time
            if isinstance(error, TimeoutError):
                # Calls that are under way come to an end by losing their connections.
                self._client.connection_pool.disconnect()
            with self._changed:
                self.counters.faults += 1
            self._breaker.failed()
            self.counters.breaks = self._breaker.num_breaks
            return None
        self._breaker.succeeded()
        return value

    def _verified(self, key: bytes, value: bytes) -> tuple[Record, Bytes] | None:
        payload = np.frombuffer(value, np.uint8)[HEADER_NBYTES:]
        try:
            record = decode(value[:HEADER_NBYTES])
        except ApportionError:
            record = None
        if (
            record is not None
            and (record.key, record.fingerprint) == (key, self.config.fingerprint)
            and payload.nbytes == record.payload_nbytes == self.config.block_nbytes
            and checksum(payload.data) == record.payload_sum
        ):
            return record, payload
        self.counters.corrupt += 1
        return None

    def _write_on(self) -> None:
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._queue or self._is_closed)
                if not self._queue:
                    return
                key, value = self._queue.popleft()
                self._queued_nbytes -= len(value) - HEADER_NBYTES
                self._is_writing = True
            self._send(key, value)

    def _send(self, key: bytes, value: bytes) -> None:
        name, expire_s = self._name(key), self.config.expire_s

        def send(client: Redis) -> bool:
            """Whether it had to be sent."""
            if client.expire(name, expire_s):
                return False
            client.set(name, value, ex=expire_s)
            return True

        sent = self._call(send, self.config.call_s)
        with self._changed:
            self.counters.lost += sent is None
            self.counters.duplicates += sent is False
            self.counters.written += sent is True
            self.counters.nbytes_written += len(value) if sent else 0
        if sent is not None:
            self._remember(key, True)

    def _remember(self, key: bytes, is_there: bool) -> None:
        with self._changed:
            self._known.pop(key, None)
            self._known[key] = (is_there, self._clock.now() + self.config.remember_s)
            if len(self._known) > _MOST_REMEMBERED:
                del self._known[next(iter(self._known))]

    def _name(self, key: bytes) -> bytes:
        return b"apportion:kv1:" + self.config.fingerprint + key


def _client(config: RemoteConfig) -> Redis:
    try:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise UsageError(
            "a remote store needs the package redis", "it is not installed", "pip install 'apportion[redis]'"
        ) from error
    try:
        return Redis.from_url(
            config.url,
            socket_timeout=config.call_s,
            socket_connect_timeout=config.call_s,
            retry=Retry(NoBackoff(), 0),
            max_connections=2 * _CALLS,
        )
    except ValueError as error:
        # Not the URL itself: there may be a password in it.
        raise UsageError("not a URL of a Redis server", str(error), "write redis://host:port/0") from error
