"""Decodes with a tiny model while `allocations.c` counts; run with that loaded first.

    python -m tests.models.count_allocations FAMILY STEPS FOLDER [greedy]

Prints one JSON object: how often the core allocated, how often anyone else did in large pieces, how many rows
of logits were obtained, and of the first two the first few, as places in the library and sizes. Of the last
steps all rows are kept: those the counter must see. Greedy steps find the best token of a head that is split.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections import deque
from pathlib import Path

import numpy as np
from tests.models import tiny

from apportion import _native
from apportion.formats.block import Floats
from apportion.kernels import NativeOps
from apportion.kernels.ops import Best

WARM_UP, HELD = 100, 50
VOCAB = 2_003  # a row of logits then has a size that nothing else has
SPLIT_VOCAB = 2_000  # whole panels
KINDS = ("native", "large", "results", "small")
KEPT = 8


def main() -> None:
    family, steps, folder, greedy = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), "greedy" in sys.argv[4:]
    tiny.BASE.update(vocab_size=SPLIT_VOCAB if greedy else VOCAB, num_hidden_layers=2)
    tiny.tokenizer_metadata = lambda vocab_size: {}  # the model alone
    model = tiny.tiny_model(family, folder, NativeOps(threads=2), block_format="q8_0" if greedy else "q4_0")
    assert model.finds_best == greedy
    forward = model.forward_best if greedy else model.forward
    cache = model.new_cache(WARM_UP + steps + HELD)
    ids = np.arange(WARM_UP + steps + HELD, dtype=np.int32) % SPLIT_VOCAB

    def decode(first: int, last: int, kept: int = 1) -> None:
        rows: deque[Floats | Best] = deque(maxlen=kept)
        for place in range(first, last):
            rows.append(forward(ids[place : place + 1], cache))

    decode(0, WARM_UP)
    shim = ctypes.CDLL(None)
    shim.watch(*(ctypes.c_size_t(number) for number in (*addresses_of(_native.__file__), 4 * VOCAB)))
    decode(WARM_UP, WARM_UP + steps)
    decode(WARM_UP + steps, WARM_UP + steps + HELD, kept=HELD)
    shim.stop_watching()

    shim.kept_of.restype = ctypes.c_size_t
    counts = {name: shim.counted(kind) for kind, name in enumerate(KINDS)}
    first = {
        name: [
            [shim.kept_of(kind, place, what) for what in (0, 1)] for place in range(min(KEPT, counts[name]))
        ]
        for kind, name in enumerate(KINDS[:2])
    }
    print(json.dumps({**counts, "first": first}))


def addresses_of(library: str) -> tuple[int, int]:
    """Where a loaded library lies in memory."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if library in line]
    bounds = [int(bound, 16) for line in lines for bound in line[0].split("-")]
    return min(bounds), max(bounds)


if __name__ == "__main__":
    main()
