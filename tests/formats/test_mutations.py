"""Valid files with bytes flipped, cut, spliced: they load, or fail with an error of ours."""

from __future__ import annotations

import random
import resource
import time

import numpy as np
import pytest
from tests.fuzz.fuzz_seeds import disk_with, gguf_seeds, packed_seeds, safetensors_seeds

from apportion.core.errors import ApportionError
from apportion.formats import open_checkpoint
from apportion.formats.gguf import open_gguf
from apportion.formats.opened import OpenedFiles
from apportion.formats.safetensors import SafetensorsCheckpoint
from apportion.formats.safetensors.header import read_header
from apportion.formats.source_file import SourceFile
from apportion.formats.verify import verify

ROUNDS = 340  # of each of eight files
ODD = [
    bytes(8),
    b"\xff" * 8,
    b"\xff" * 4,
    b"\0\0\0\x80",
    (1 << 63).to_bytes(8, "little"),
    b"\x09\0\0\0",
    b'"',
    b"{[",
]


def mutated(data: bytes, rng: random.Random) -> bytes:
    result = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(result) + 1)
        match rng.randrange(6):
            case 0 if at < len(result):
                result[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(result):
                result[at] = rng.randrange(256)
            case 2:
                odd = rng.choice(ODD)
                result[at : at + len(odd)] = odd
            case 3:
                del result[at : at + rng.randint(1, 16)]
            case 4:
                start = rng.randrange(len(result) + 1)
                result[at:at] = result[start : start + rng.randint(1, 40)]
            case 5 if rng.random() < 0.3:
                del result[at:]
    return bytes(result)


def open_safetensors_bytes(data: bytes) -> OpenedFiles:
    disk, path = disk_with("model.safetensors", data)
    source = SourceFile(path, disk)
    return SafetensorsCheckpoint([source], [read_header(source)], {})


def open_gguf_bytes(data: bytes) -> OpenedFiles:
    disk, path = disk_with("model.gguf", data)
    return open_gguf(path, disk)


def open_packed_bytes(data: bytes) -> OpenedFiles:
    disk, path = disk_with("model.gguf", data)
    return open_checkpoint(path, disk)


CASES = {
    **{f"gguf {name}": (open_gguf_bytes, data) for name, data in gguf_seeds().items()},
    **{name: (open_packed_bytes, data) for name, data in packed_seeds().items()},
    **{f"safetensors {name}": (open_safetensors_bytes, data) for name, data in safetensors_seeds().items()},
}


@pytest.mark.parametrize("name", CASES)
def test_a_mutated_file_loads_or_is_refused(name: str) -> None:
    opener, data = CASES[name]
    rng = random.Random(name)
    num_loaded = 0
    peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(ROUNDS):
        broken = mutated(data, rng)
        start = time.process_time()
        try:
            checkpoint = opener(broken)
        except ApportionError as error:
            assert str(error)
            continue
        finally:
            assert time.process_time() - start < 1, broken
        num_loaded += 1
        with checkpoint:
            verify(checkpoint)
            for tensor in checkpoint.tensors.values():
                assert tensor.offset + tensor.nbytes <= len(broken)
                checkpoint.read(tensor, np.empty(tensor.nbytes, np.uint8))
    assert num_loaded < ROUNDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_before < 64 << 10  # in KiB
