"""Perplexity and its windows, against the definition written out."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from apportion.bench.perplexity import perplexity, standard_error, window_scores
from apportion.bench.windows import row_runs, text_windows, window_input
from apportion.core.errors import NotFinite, UsageError


def written_out(model, ids: list[int], ctx: int, bos: int | None) -> tuple[float, int]:
    """llama.cpp's rule: positions ctx/2 .. ctx-2 of each window predict the token after them."""
    total, count = 0.0, 0
    for start in range(0, len(ids) - ctx + 1, ctx):
        window = list(ids[start : start + ctx])
        read = [bos, *window[1:]] if bos is not None else window
        logits = model.forward(read, model.new_cache(ctx), logits="all").astype(np.float64)
        for place in range(ctx // 2, ctx - 1):
            row = logits[place]
            total += math.log(np.exp(row - row.max()).sum()) + row.max() - row[window[place + 1]]
            count += 1
    return math.exp(total / count), count


@pytest.mark.parametrize("bos", [None, 256])
@pytest.mark.parametrize("ctx", [16, 33])
def test_perplexity_is_that_of_the_rule_written_out(tiny, text, ctx: int, bos: int | None) -> None:
    windows = text_windows(text, tiny.tokenizer, ctx)
    expected, count = written_out(tiny.model, np.concatenate(windows).tolist(), ctx, bos)
    result = perplexity(tiny.model, windows, bos)
    assert result.perplexity == pytest.approx(expected, rel=1e-5)
    assert result.tokens == count == len(windows) * (ctx - ctx // 2 - 1)
    assert (result.ctx, result.windows, len(result.running)) == (ctx, len(windows), len(windows))


def test_windows_longer_than_a_pass_are_read_in_passes(tiny, text, monkeypatch) -> None:
    windows = text_windows(text, tiny.tokenizer, 64)
    whole = perplexity(tiny.model, windows, None).perplexity
    monkeypatch.setattr("apportion.bench.windows.CHUNK", 24)
    assert perplexity(tiny.model, windows, None).perplexity == pytest.approx(whole, rel=1e-6)


def test_logits_in_small_runs_of_rows_give_the_same(tiny, text, monkeypatch) -> None:
    windows = text_windows(text, tiny.tokenizer, 64, limit=2)
    whole = perplexity(tiny.model, windows, None).perplexity
    monkeypatch.setattr("apportion.bench.windows.LOGITS_NBYTES", 5000)
    assert perplexity(tiny.model, windows, None).perplexity == pytest.approx(whole, rel=1e-6)


def test_rows_come_in_runs_within_the_bound() -> None:
    runs = list(row_runs(1000, 262_144))
    assert [r.start for r in runs[1:]] == [r.stop for r in runs[:-1]]
    assert runs[-1].stop == 1000
    assert max(r.stop - r.start for r in runs) == 16


def test_bos_takes_the_place_of_the_windows_first_token_and_leaves_the_window_alone() -> None:
    window = np.array([5, 6, 7], dtype=np.int32)
    assert window_input(window, 1).tolist() == [1, 6, 7]
    assert window_input(window, None).tolist() == window.tolist() == [5, 6, 7]


def test_progress_is_told_window_by_window(tiny, text) -> None:
    told = []
    result = perplexity(
        tiny.model,
        text_windows(text, tiny.tokenizer, 64, limit=3),
        None,
        on_window=lambda *event: told.append(event),
    )
    assert told == [(n + 1, 3, value) for n, value in enumerate(result.running)]


def test_a_text_of_less_than_two_windows_is_refused_with_the_numbers(tiny) -> None:
    with pytest.raises(UsageError) as caught:
        text_windows("too short", tiny.tokenizer, 64)
    assert caught.value.numbers["needed"] == 128


def test_a_likelihood_that_is_no_number_is_an_error() -> None:
    model = SimpleNamespace(
        config=SimpleNamespace(vocab_size=4),
        embed=lambda ids: np.zeros((len(ids), 2), np.float32),
        run_layers=lambda x, cache: x,
        head=lambda x: np.full((len(x), 4), np.nan, np.float32),
    )
    cache = SimpleNamespace(truncate=lambda n: None, advance=lambda n: None, tokens_at_once=None)
    with pytest.raises(NotFinite):
        window_scores(model, np.zeros(8, np.int32), None, cache)


def test_the_error_is_that_of_a_mean() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0])
    assert standard_error(values) == pytest.approx(values.std() / math.sqrt(3))
