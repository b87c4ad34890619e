"""The names of KV blocks: a chain of hashes over all tokens up to the block's end.

Two blocks have the same key only if the same model, reached by the same tokens, made them in the same layout.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import ArrayLike

KEY_NBYTES = 16
EXACT = "exact"  # the lineage of what was computed with full attention over an exact context


def fingerprint(model: str, tokenizer: str, layout: str, lineage: str = EXACT) -> bytes:
    """What keys and values depend on besides the tokens.

    Args:
        model, tokenizer: digests of their files.
        layout: the KV codecs and shapes of all layers, in words that change when a byte of a block would.
        lineage: `exact`, or a name for what the context was reduced by while it was computed; what comes of
            different lineages never matches.
    """
    return _hash(*(part.encode() for part in (model, tokenizer, layout, lineage)))


def root_key(fingerprint: bytes, salt: str = "") -> bytes:
    """The key before the first block. Chains with different salts have no key in common."""
    return _hash(fingerprint, salt.encode())


def chain_keys(ids: ArrayLike, root: bytes, block_tokens: int = 32) -> list[bytes]:
    """One key for each block that `ids` fill.

    Args:
        ids: [num_tokens] token numbers.
        root: the `root_key`, or the key of the block before the first of `ids`.
    """
    data = np.ascontiguousarray(ids, dtype="<i4").tobytes()
    stride = 4 * block_tokens
    keys, key = [], root
    for end in range(stride, len(data) + 1, stride):
        key = blake2b(key + data[end - stride : end], digest_size=KEY_NBYTES).digest()
        keys.append(key)
    return keys


def _hash(*parts: bytes) -> bytes:
    # Each part's length first, so that no two lists of parts run together to the same text.
    text = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    return blake2b(text, digest_size=KEY_NBYTES).digest()
