"""Likelihoods of choices, against the definition written out."""

from __future__ import annotations

import numpy as np
import pytest
from tests.models.tiny import tiny_gguf

from apportion.bench.tasks.likelihood import Group, Score, likelihoods
from apportion.core.errors import NotFinite
from apportion.engine.loading import load
from apportion.kernels import NativeOps


def written_out(model, group: Group) -> list[tuple[float, int, bool]]:
    found = []
    for choice in group.choices:
        ids = np.concatenate([group.context, choice])
        logits = model.forward(ids, model.new_cache(len(ids)), logits="all").astype(np.float64)
        rows = logits[len(group.context) - 1 : -1]
        tops = rows.max(axis=1, keepdims=True)
        logs = rows - tops - np.log(np.exp(rows - tops).sum(axis=1, keepdims=True))
        total = logs[np.arange(len(choice)), choice].sum()
        found.append((float(total), len(choice), bool((rows.argmax(axis=1) == choice).all())))
    return found


def groups(seed: int, count: int) -> list[Group]:
    rng = np.random.default_rng(seed)

    def ids(low: int, high: int) -> np.ndarray:
        return rng.integers(0, 256, rng.integers(low, high), dtype=np.int32)

    return [Group(ids(1, 90), tuple(ids(1, 12) for _ in range(rng.integers(1, 5)))) for _ in range(count)]


def told(scores: list[list[Score]]) -> list[list[tuple[float, int, bool]]]:
    return [[(one.logprob, one.tokens, one.greedy) for one in group] for group in scores]


@pytest.mark.parametrize(("lanes", "tokens"), [(1, 512), (4, 512), (3, 17)])
def test_likelihoods_are_those_of_each_text_alone(tiny, lanes: int, tokens: int) -> None:
    some = groups(3, 11)
    found = told(likelihoods(tiny.model, some, kv="f16", lanes=lanes, tokens=tokens))
    for group, scores in zip(some, found, strict=True):
        for (logprob, count, greedy), expected in zip(scores, written_out(tiny.model, group), strict=True):
            assert logprob == pytest.approx(expected[0], rel=1e-5)
            assert (count, greedy) == expected[1:]


def test_what_the_model_says_is_greedy_and_nothing_else_is(tiny) -> None:
    context = np.array([5, 6, 7], np.int32)
    said = []
    ids = context
    for _ in range(3):
        logits = tiny.model.forward(ids, tiny.model.new_cache(len(ids)))
        said.append(int(logits[0].argmax()))
        ids = np.append(ids, np.int32(said[-1]))
    other = [*said[:2], (said[2] + 1) % 256]
    ((yes, no),) = likelihoods(
        tiny.model, [Group(context, (np.array(said, np.int32), np.array(other, np.int32)))], kv="f16"
    )
    assert (yes.greedy, no.greedy) == (True, False)
    assert yes.logprob > no.logprob


def test_codecs_that_take_few_tokens_at_once_are_served(tmp_path) -> None:
    loaded = load(tiny_gguf("llama", tmp_path), NativeOps(threads=1))
    some = groups(5, 4)
    found = told(likelihoods(loaded.model, some, kv="q4_smooth", lanes=2))
    expected = told(likelihoods(loaded.model, some, kv="q4_smooth", lanes=1))
    assert found == expected


def test_every_group_is_told_once_with_its_scores(tiny) -> None:
    seen = {}
    some = groups(4, 7)
    found = likelihoods(tiny.model, some, kv="f16", lanes=3, on_group=seen.__setitem__)
    assert seen == dict(enumerate(found))


def test_tokens_after_a_text_are_computed_once() -> None:
    group = Group(np.zeros(10, np.int32), tuple(np.zeros(n, np.int32) for n in (1, 3, 5)))
    assert (group.num_tokens, group.num_positions) == (10 + 0 + 2 + 4, 14)


def test_a_likelihood_that_is_no_number_is_an_error(tiny, monkeypatch) -> None:
    monkeypatch.setattr(
        "apportion.models.model.Model.head", lambda self, x: np.full((len(x), 320), np.nan, np.float32)
    )
    with pytest.raises(NotFinite):
        likelihoods(tiny.model, groups(1, 1), kv="f16")
