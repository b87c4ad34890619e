"""What the process takes beside weights and KV, estimated from headers, for plans that are made before
anything runs. The engine knows better, and passes what it measured.
"""

from __future__ import annotations

from collections.abc import Mapping
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


def workspace_of(config: ModelConfig, tokens_per_pass: int = TOKENS_PER_PASS) -> Workspace:
    """Bytes that passes need beside weights and KV, by how many tokens are under way at once.

    A pass holds some vectors of each kind for each of its tokens; the sum below is what was measured at 512
    tokens, or up to a fifth more, for SmolLM2, Gemma 3 270M and OLMoE. Tokens that wait for their next pass
    through a layer have a hidden state and a route.
    """
    experts = config.experts
    routed = 0 if experts is None else experts.routing.top_k * experts.feed_forward_size + experts.shared_size
    widths = (
        3 * config.hidden_size,
        config.q_width + config.k_width + config.v_width,
        config.num_heads * config.value_dim,
        max(config.feed_forward_size, routed),
    )
    each = round(1.1 * 4 * sum(widths))
    top_k = 0 if experts is None else experts.routing.top_k

    def nbytes(tokens: int) -> int:
        waiting = tokens * (4 * config.hidden_size + 8 * top_k) if tokens > tokens_per_pass else 0
        return min(tokens, tokens_per_pass) * each + 8 * config.vocab_size + waiting

    return nbytes
