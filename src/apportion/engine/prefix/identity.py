"""Which model it is, by a little of each tensor: good enough to tell what may share keys and values, and read
in milliseconds where all of it would take minutes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import numpy as np

from apportion.formats.checkpoint import Checkpoint, TensorInfo

SAMPLE_NBYTES = 4096
TOKENIZER_KEYS = "tokenizer."  # what GGUF files call what belongs to their tokenizer
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json")
MAX_TOKENIZER_NBYTES = 64 << 20


def model_digest(checkpoint: Checkpoint) -> str:
    """A digest of the metadata and of the first and last 4 KiB of every tensor.

    Raises:
        Truncated, DiskFault: a tensor could not be read.
    """
    digest = blake2b(digest_size=16)
    digest.update(words(checkpoint.metadata))
    for tensor in checkpoint.tensors.values():
        digest.update(f"{tensor.name} {tensor.format.name} {tensor.shape} ".encode())
        for start in sorted({0, max(0, tensor.nbytes - SAMPLE_NBYTES)}):
            digest.update(sample(checkpoint, tensor, start))
    return digest.hexdigest()


def tokenizer_digest(checkpoint: Checkpoint) -> str:
    """A digest of what makes token ids of text."""
    digest = blake2b(digest_size=16)
    metadata = checkpoint.metadata
    digest.update(words({key: metadata[key] for key in metadata if key.startswith(TOKENIZER_KEYS)}))
    names = checkpoint.side_files.names() if checkpoint.kind != "gguf" else ()
    for name in sorted(set(names) & set(TOKENIZER_FILES)):
        digest.update(name.encode() + checkpoint.side_files.read(name, MAX_TOKENIZER_NBYTES))
    return digest.hexdigest()


def sample(checkpoint: Checkpoint, tensor: TensorInfo, start: int) -> bytes:
    out = np.empty(min(SAMPLE_NBYTES, tensor.nbytes), np.uint8)
    checkpoint.read(tensor, out, start)
    return out.tobytes()


def words(values: Mapping[str, Any]) -> bytes:
    """Metadata in one fixed spelling; long arrays by their bytes."""
    return json.dumps(dict(values), sort_keys=True, default=spelled).encode()


def spelled(value: object) -> str:
    if isinstance(value, np.ndarray):
        return blake2b(np.ascontiguousarray(value).tobytes(), digest_size=16).hexdigest()
    return str(value)
