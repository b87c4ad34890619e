"""What the process takes beside weights and KV, estimated from headers, for plans that are made before
anything runs. The engine knows better, and passes what it measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from apportion.core.units import MiB
from apportion.models.config import ModelConfig
from apportion.plan.arrangement import TOKENS_PER_PASS, Workspace

# Resident bytes of `apportion run` on Linux with Python 3.11: interpreter, NumPy, our core and the command
# line; then what opening a GGUF file and making its tokenizer added, for vocabularies of 32,000 to 262,144
# entries with and without merges (within 6 MiB of each).
BASE_NBYTES = 46 * MiB
TOKEN_NBYTES = 350
MERGE_NBYTES = 530
EXPERT_NBYTES = 2048  # the objects that say where an expert lies and which slot it has

ALIGNMENT = 64  # of rows in the core's buffers
ROUTED_AT_A_TIME = 1024  # routes whose experts are computed at a time
LISTS_NBYTES = 28  # of a route: its number here and in the core, place, weight, and what sorting takes
TOKEN_NBYTES_IN_PRODUCTS = 24  # where a row's codes, scales and sums are

TOKENS, MERGES = "tokenizer.ggml.tokens", "tokenizer.ggml.merges"


def runtime_nbytes(config: ModelConfig, metadata: Mapping[str, Any]) -> int:
    """Bytes of interpreter, libraries, headers and tokenizer.

    Args:
        metadata: of the checkpoint; where it does not list merges (a folder), as many as tokens are assumed.
    """
    tokens = len(metadata[TOKENS]) if TOKENS in metadata else config.vocab_size
    merges = len(metadata.get(MERGES, ())) if TOKENS in metadata else config.vocab_size
    experts = 0 if config.experts is None else config.experts.num_experts * sum(config.experts.layers)
    return BASE_NBYTES + TOKEN_NBYTES * tokens + MERGE_NBYTES * merges + EXPERT_NBYTES * experts


def workspace_of(
    config: ModelConfig, tokens_per_pass: int = TOKENS_PER_PASS, concurrency: int = 1
) -> Workspace:
    """Bytes that passes need beside weights and KV, by how many tokens are under way at once.

    At most `tokens_per_pass` of them pass a layer's dense part at a time; what all of them have is carried
    from one piece of a program to the next. As many sequences as `concurrency` have logits at once.
    """
    each, carried, once = _passing_nbytes(config), _carried_nbytes(config), _once_nbytes(config, concurrency)

    def nbytes(tokens: int) -> int:
        return min(tokens, tokens_per_pass) * each + tokens * carried + once

    return nbytes


def logits_nbytes(config: ModelConfig) -> int:
    """Of one token."""
    return 4 * config.vocab_size


def _passing_nbytes(config: ModelConfig) -> int:
    """For each token in a layer's dense part: what a half of the layer reads and what it makes of that."""
    attended = config.num_heads * config.value_dim
    wide = max(config.feed_forward_size, 0 if config.experts is None else config.experts.shared_size)
    made = max(config.q_width + config.k_width + config.v_width + attended, wide)
    return 4 * (config.hidden_size + made) + _codes_nbytes(max(config.hidden_size, attended, wide))


def _carried_nbytes(config: ModelConfig) -> int:
    """For each token of a run: hidden state, position and angles; before experts also what enters and leaves
    them, its route, and its place in the lists by expert.
    """
    ropes = [config.rope.dims] + ([config.local_rope.dims] if config.local_rope is not None else [])
    widths = [config.hidden_size, 1, *ropes]
    if config.experts is None:
        return _rows_nbytes(widths)
    top_k = config.experts.routing.top_k
    widths += [config.hidden_size, config.hidden_size, top_k, top_k]
    return _rows_nbytes(widths) + _codes_nbytes(config.hidden_size) + LISTS_NBYTES * top_k


def _once_nbytes(config: ModelConfig, concurrency: int) -> int:
    """Logits, and what sampling makes of a row; what passes the experts at a time."""
    experts = 0 if config.experts is None else config.experts.feed_forward_size
    routed = ROUTED_AT_A_TIME * (4 * experts + _codes_nbytes(experts))
    return logits_nbytes(config) * (concurrency + 1) + routed


def _rows_nbytes(widths: Sequence[int]) -> int:
    """Rows of numbers, each from a cache line on."""
    return sum(-(-4 * width // ALIGNMENT) * ALIGNMENT for width in widths)


def _codes_nbytes(width: int) -> int:
    """A row as products take it: two bytes for a number at most, a scale and a sum for 32 of them."""
    return 2 * width + width // 4 + TOKEN_NBYTES_IN_PRODUCTS
