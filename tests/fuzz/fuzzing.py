"""What the fuzz targets share: the start of libFuzzer over seeds, with limits on time and memory."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import atheris

MAX_S = 1.0  # of processor time for one input; wall time says little on a busy machine
LIMITS = ("-timeout=60", "-rss_limit_mb=1024", "-malloc_limit_mb=64", "-max_len=4096", "-print_final_stats=1")


def fuzz(target: Callable[[bytes], None], seeds: Iterable[bytes], *options: str) -> None:
    """Run `target` on seeds and what grows from them; options, ours and the command line's, go to libFuzzer.

    An argument that is a file is run once, and nothing else: that is how a found input is looked at.
    """

    def timed(data: bytes) -> None:
        start = time.process_time()
        target(data)
        assert time.process_time() - start < MAX_S, "it took too long"

    if found := [Path(word) for word in sys.argv[1:] if Path(word).is_file()]:
        for path in found:
            timed(path.read_bytes())
        return
    with tempfile.TemporaryDirectory(prefix="apportion-fuzz-") as corpus:
        for index, seed in enumerate(seeds):
            (Path(corpus) / f"seed-{index}").write_bytes(seed)
        atheris.Setup([*sys.argv, *LIMITS, *options, corpus], timed)
        atheris.Fuzz()
