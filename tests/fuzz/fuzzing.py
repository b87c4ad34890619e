"""What the fuzz targets share: the start of libFuzzer over seeds, with limits on time and memory."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import atheris

LIMITS = ("-timeout=1", "-rss_limit_mb=1024", "-malloc_limit_mb=64", "-max_len=4096", "-print_final_stats=1")


def fuzz(target: Callable[[bytes], None], seeds: Iterable[bytes]) -> None:
    """Run `target` on seeds and what grows from them; arguments of the command line go to libFuzzer."""
    with tempfile.TemporaryDirectory(prefix="apportion-fuzz-") as corpus:
        for index, seed in enumerate(seeds):
            (Path(corpus) / f"seed-{index}").write_bytes(seed)
        atheris.Setup([*sys.argv, *LIMITS, corpus], target)
        atheris.Fuzz()
