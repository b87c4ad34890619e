"""Coverage-guided fuzzing of the safetensors reader: it loads, or fails with an error of ours.

Run it as a script: `python tests/fuzz/fuzz_safetensors.py -max_total_time=600`.
"""

from __future__ import annotations

import atheris
import plain_imports  # noqa: F401  # before anything of ours

with atheris.instrument_imports(include=["apportion"]):
    from apportion.core.errors import ApportionError
    from apportion.formats.safetensors import SafetensorsCheckpoint
    from apportion.formats.safetensors.header import read_header
    from apportion.formats.source_file import SourceFile
    from apportion.formats.verify import verify

from fuzz_seeds import disk_with, safetensors_seeds
from fuzzing import fuzz


def one_input(data: bytes) -> None:
    disk, path = disk_with("model.safetensors", data)
    source = SourceFile(path, disk)
    try:
        header = read_header(source)
    except ApportionError:
        return
    with SafetensorsCheckpoint([source], [header], {}) as checkpoint:
        verify(checkpoint)


if __name__ == "__main__":
    fuzz(one_input, safetensors_seeds().values())
