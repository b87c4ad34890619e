"""Coverage-guided fuzzing of the reader of routes files: it reads, or fails with an error of ours.

Run it as a script: `python tests/fuzz/fuzz_routes.py -max_total_time=600`.
"""

from __future__ import annotations

import atheris
import plain_imports  # noqa: F401  # before anything of ours

with atheris.instrument_imports(include=["apportion"]):
    from apportion.core.errors import ApportionError
    from apportion.formats.routes import RoutesFile

from fuzz_seeds import disk_with, routes_seeds
from fuzzing import fuzz


def one_input(data: bytes) -> None:
    disk, path = disk_with("x.routes", data)
    try:
        with RoutesFile(path, disk) as routes:
            assert len(routes.experts()) == routes.num_tokens
    except ApportionError:
        return


if __name__ == "__main__":
    fuzz(one_input, routes_seeds().values())
