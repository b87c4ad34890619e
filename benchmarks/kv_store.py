"""What the store on disk costs: checksums, writing, opening, and reading back with a cold page cache.

    python benchmarks/kv_store.py [--folder FOLDER] [--blocks 125] [--block-nbytes 737280]

Defaults are a prompt of 4,000 tokens of SmolLM2-135M with keys and values in f16.
"""

from __future__ import annotations

import argparse
import hashlib
import mmap
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import numpy as np
import numpy.typing as npt
import xxhash

from apportion.engine.prefix.keys import chain_keys, fingerprint, root_key
from apportion.engine.store import KvStore, StoreConfig

TOKENS = 32
READERS = 4
FINGERPRINT = fingerprint("model", "tokenizer", "layout")
ROOT = root_key(FINGERPRINT)
Blocks = npt.NDArray[np.uint8]


def main() -> None:
    arguments = parsed()
    memory = mmap.mmap(-1, arguments.blocks * arguments.block_nbytes)
    blocks = np.frombuffer(memory, np.uint8).reshape(arguments.blocks, arguments.block_nbytes)
    blocks[:] = np.random.default_rng(0).integers(0, 256, blocks.shape, dtype=np.uint8)
    ids = np.arange(TOKENS * len(blocks), dtype=np.int32)
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        checksums(blocks)
        show("keys of the prompt", [timed(lambda: chain_keys(ids, ROOT)) for _ in range(9)])
        config = StoreConfig(4 * blocks.nbytes, FINGERPRINT, arguments.block_nbytes)
        writing(folder, config, ids, blocks)
        reading(folder, config, chain_keys(ids, ROOT), blocks, arguments.repetitions)
    finally:
        shutil.rmtree(folder)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", help="where to make the store's folder")
    parser.add_argument("--blocks", type=int, default=125)
    parser.add_argument("--block-nbytes", type=int, default=737_280)
    parser.add_argument("--repetitions", type=int, default=7)
    return parser.parse_args()


def checksums(blocks: Blocks) -> None:
    ways: dict[str, Callable[[memoryview], object]] = {
        "xxh3-128": xxhash.xxh3_128_digest,
        "blake2b": lambda data: hashlib.blake2b(data, digest_size=16).digest(),
    }
    for name, way in ways.items():
        times = [timed(lambda way=way, row=row: way(row.data)) for row in blocks[:20]]  # type: ignore[misc]
        show(f"{name} of a block", times, blocks.shape[1])


def writing(folder: Path, config: StoreConfig, ids: npt.NDArray[np.int32], blocks: Blocks) -> None:
    keys = chain_keys(ids, ROOT)
    with KvStore(folder, config) as store:

        def put_all() -> None:
            for i, key in enumerate(keys):
                parent = keys[i - 1] if i else ROOT
                store.put(key, parent, TOKENS * i, ids[TOKENS * i : TOKENS * (i + 1)], blocks[i], 60.0)
            store.flush()

        show("writing, until all is safe", [timed(put_all)], blocks.nbytes)
        print(f"  {store.counters.commits} commits, {store.used_nbytes / blocks.nbytes - 1:.1%} overhead")


def reading(folder: Path, config: StoreConfig, keys: list[bytes], blocks: Blocks, repetitions: int) -> None:
    wanted, opening, cold, warm = blocks.copy(), [], [], []
    for _ in range(repetitions):
        drop_from_page_cache(folder)
        start = perf_counter()
        with KvStore(folder, config, read_only=True) as store, ThreadPoolExecutor(READERS) as threads:
            opening.append(perf_counter() - start)

            def read_all(store: KvStore = store, threads: ThreadPoolExecutor = threads) -> None:
                assert all(threads.map(store.read_into, keys, blocks))

            for times in (cold, warm):
                blocks[:] = 0
                times.append(timed(read_all))
                assert np.array_equal(blocks, wanted)
    show("opening, cold", opening)
    show("reading, cold page cache", cold, blocks.nbytes)
    show("reading again", warm, blocks.nbytes)


def drop_from_page_cache(folder: Path) -> None:
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def timed(act: Callable[[], object]) -> float:
    start = perf_counter()
    act()
    return perf_counter() - start


def show(what: str, times: list[float], nbytes: int | None = None) -> None:
    """The median, and the fastest and slowest of `times`."""
    middle = statistics.median(times)
    rate = "" if nbytes is None else f"  {nbytes / middle / 1e9:6.2f} GB/s"
    print(f"{what:28} {middle * 1e3:8.2f} ms  ({min(times) * 1e3:.2f} to {max(times) * 1e3:.2f}){rate}")


if __name__ == "__main__":
    main()
