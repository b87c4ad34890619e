"""Coverage-guided fuzzing of the GGUF reader and of packed files: it loads, or fails with an error of ours.

Run it as a script: `python tests/fuzz/fuzz_gguf.py -max_total_time=600`.
"""

from __future__ import annotations

import atheris
import plain_imports  # noqa: F401  # before anything of ours

with atheris.instrument_imports(include=["apportion"]):
    from apportion.core.errors import ApportionError
    from apportion.formats import open_checkpoint
    from apportion.formats.verify import verify

from fuzz_seeds import disk_with, gguf_seeds, packed_seeds
from fuzzing import fuzz


def one_input(data: bytes) -> None:
    disk, path = disk_with("fuzzed.gguf", data)
    try:
        checkpoint = open_checkpoint(path, disk)
    except ApportionError:
        return
    with checkpoint:
        verify(checkpoint)


if __name__ == "__main__":
    fuzz(one_input, [*gguf_seeds().values(), *packed_seeds().values()])
