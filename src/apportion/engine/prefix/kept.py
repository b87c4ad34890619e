"""What is kept for later prompts, told and changed from outside: listed, pinned for a time, and dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from apportion.core.clock import Clock
from apportion.core.errors import UsageError
from apportion.engine.prefix.index import KeptBlock, PrefixIndex
from apportion.engine.prefix.keys import KEY_NBYTES
from apportion.engine.store.shelf import Entry

FLUSH_S = 5.0
Where: TypeAlias = Literal["ram", "disk"]


class Stored(Protocol):
    """A store whose blocks can be told and removed one by one."""

    def entries(self) -> Sequence[Entry]:
        """Of all blocks that it holds."""

    def remove(self, key: bytes) -> bool:
        """Forget a block; whether it was there."""

    def flush(self, timeout_s: float) -> bool:
        """Whether everything that it took is there in time."""


@dataclass(frozen=True, slots=True)
class KeptPrefix:
    """Tokens of a beginning whose keys and values are kept, and that no longer one continues.

    Attributes:
        key: of its last block, in hexadecimal digits; it stands for the tokens, and for the model and salt.
        nbytes: of keys and values, those included that other prefixes begin with.
        where: its last block is in memory, on disk, or in both.
        pinned_s: seconds for which it is pinned still; 0 where it is not.
        idle_s: seconds since a request used it; num_uses: how many did.
    """

    key: str
    num_tokens: int
    nbytes: int
    where: tuple[Where, ...]
    pinned_s: float
    idle_s: float
    num_uses: int


class KeptPrefixes:
    """What an index and a store keep. For a moment in which no step runs.

    Args:
        store: the one on disk; None for none.
    """

    def __init__(
        self, index: PrefixIndex, store: Stored | None, clock: Clock, block_tokens: int, block_nbytes: int
    ) -> None:
        self._index = index
        self._store = store
        self._clock = clock
        self._block_tokens = block_tokens
        self._block_nbytes = block_nbytes

    def listed(self, most: int) -> list[KeptPrefix]:
        """Up to so many, the one that was used last first."""
        here, stored = self._here(), self._stored()
        both: list[KeptBlock | Entry] = [*stored.values(), *here.values()]
        inner = {one.parent for one in both}
        last = [key for key in {**stored, **here} if key not in inner]
        found = [self._told(key, here.get(key), stored.get(key)) for key in last]
        return sorted(found, key=lambda one: (one.idle_s, one.key))[:most]

    def pin(self, keys: Sequence[bytes], seconds: float) -> int:
        """Pin those of the blocks that are in memory; the tokens in them."""
        return self._index.pin(keys, self._clock.now() + seconds) * self._block_tokens

    def chain(self, key: str) -> list[bytes]:
        """The keys of the blocks in memory that lead to one, its own last; none where it is not there.

        Raises:
            UsageError: this is no key.
        """
        here, at = self._here(), key_of(key)
        found = []
        while at in here:
            found.append(at)
            at = here[at].parent
        return found[::-1]

    def drop(self, root: bytes | None) -> int:
        """Drop what continues a key, itself among it, from memory and from disk; None: everything. What
        requests use that run now stays. How many blocks it were.
        """
        if self._store is not None:
            self._store.flush(FLUSH_S)  # what waits to be written is dropped, too
        stored = self._stored()
        both: list[KeptBlock | Entry] = [*stored.values(), *self._here().values()]
        parents = {one.key: one.parent for one in both}
        keys = list(parents) if root is None else under(root, parents)
        dropped = self._index.drop(keys)
        if self._store is not None:
            dropped |= {key for key in keys if key in stored and self._store.remove(key)}
        return len(dropped)

    def _here(self) -> dict[bytes, KeptBlock]:
        return {block.key: block for block in self._index.blocks()}

    def _stored(self) -> dict[bytes, Entry]:
        return {} if self._store is None else {entry.key: entry for entry in self._store.entries()}

    def _told(self, key: bytes, here: KeptBlock | None, stored: Entry | None) -> KeptPrefix:
        one, now = here or stored, self._clock.now()
        assert one is not None
        where: list[Where] = ["ram"] if here is not None else []
        num_tokens = one.num_before + self._block_tokens
        return KeptPrefix(
            key.hex(),
            num_tokens,
            num_tokens // self._block_tokens * self._block_nbytes,
            (*where, "disk") if stored is not None else tuple(where),
            max(0.0, here.pinned_until_s - now) if here is not None else 0.0,
            max(0.0, now - one.last_use_s),
            one.num_uses,
        )


def key_of(text: str) -> bytes:
    """A key that was written in hexadecimal digits."""
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_NBYTES:
        raise UsageError("this is no key of a prefix", f"a key is {2 * KEY_NBYTES} hexadecimal digits")
    return key


def under(root: bytes, parents: Mapping[bytes, bytes]) -> list[bytes]:
    """The keys that continue `root`, itself among them, by the parent of each."""
    children: dict[bytes, list[bytes]] = {}
    for key, parent in parents.items():
        children.setdefault(parent, []).append(key)
    found, left = [], [root]
    while left:
        key = left.pop()
        found.append(key)
        left += children.get(key, ())
    return found
