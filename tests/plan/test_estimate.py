from __future__ import annotations

from typing import Any

from apportion.core.units import MiB
from apportion.plan.estimate import BASE_NBYTES, runtime_nbytes, workspace_of


def test_the_runtime_grows_with_vocabulary_merges_and_experts(moe: Any, dense: Any) -> None:
    tokens = {"tokenizer.ggml.tokens": ["x"] * 1000}
    merges = {**tokens, "tokenizer.ggml.merges": ["x"] * 1000}
    plain = runtime_nbytes(dense.config, tokens)
    assert BASE_NBYTES < plain < BASE_NBYTES + MiB
    assert runtime_nbytes(dense.config, merges) > plain
    assert runtime_nbytes(moe.config, tokens) - plain == 256 * 2048


def test_a_folder_counts_as_many_merges_as_tokens(dense: Any) -> None:
    listed = {"tokenizer.ggml.tokens": ["x"] * 40_000, "tokenizer.ggml.merges": ["x"] * 40_000}
    assert runtime_nbytes(dense.config, {}) == runtime_nbytes(dense.config, listed)


def test_a_longer_prompt_needs_room_for_what_its_tokens_carry_from_layer_to_layer(
    moe: Any, dense: Any
) -> None:
    for shape, vectors in ((moe, 3), (dense, 1)):
        workspace, hidden = workspace_of(shape.config), shape.config.hidden_size
        assert workspace(1) < workspace(512)
        longer = workspace(4096) - workspace(2048)
        assert 2048 * 4 * hidden * vectors < longer < 2048 * 4 * hidden * 2 * vectors


def test_sequences_at_once_have_logits_each(dense: Any) -> None:
    alone, eight = (workspace_of(dense.config, concurrency=count)(64) for count in (1, 8))
    assert eight - alone == 7 * 4 * dense.config.vocab_size
