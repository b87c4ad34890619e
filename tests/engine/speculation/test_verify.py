"""Speculation changes nothing: tokens, text, ends and log-probabilities are those of one token at a time."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest
from tests.engine.conftest import VOCAB, ByteTokenizer

from apportion.engine import SamplingParams
from apportion.engine.grammar import Grammars, Spec, spec_of
from apportion.engine.sequence import Sequence
from apportion.engine.speculation.verify import verify

PADDED = VOCAB + 6
GREEDY = SamplingParams(temperature=0, max_tokens=40)
HOT = SamplingParams(temperature=1.5, top_k=0, top_p=0.98, min_p=0.01, seed=11, max_tokens=40)
PARAMS = {
    "greedy": GREEDY,
    "sampled": HOT,
    "penalties": replace(HOT, repetition_penalty=1.3, frequency_penalty=0.4, penalty_window=9),
    "logprobs": replace(HOT, logprobs=3),
    "stop": replace(GREEDY, stop=["e", "tt"]),
    "bias": replace(HOT, logit_bias={101: 5.0, 32: -np.inf}),
    "typical": replace(HOT, typical_p=0.7, seed=3),
    "no end": replace(HOT, ignore_eos=True),
    "form": replace(HOT, regex="([a-e]{2}[0-9])+!"),
}


def logits_after(ids: np.ndarray) -> np.ndarray:
    """What a model would say: a function of all that it has read, and likelier some letters than others."""
    rng = np.random.default_rng(zlib.crc32(ids.astype(np.int32).tobytes()))
    row = rng.normal(size=PADDED).astype(np.float32)
    row[97:105] += 4
    row[258:] = 90
    return row


def started(params: SamplingParams, grammars: Grammars | None) -> Sequence:
    params = params.completed(SamplingParams())
    spec = spec_of(params)
    grammar = None if spec is None or grammars is None else grammars.matcher(spec)
    prompt = np.frombuffer(b"once upon", np.uint8).astype(np.int32)
    return Sequence(prompt, params, ByteTokenizer(), 256, grammar=grammar)


def plain(params: SamplingParams, grammars: Grammars | None = None) -> tuple[Sequence, list]:
    sequence, deltas = started(params, grammars), []
    while sequence.finish_reason is None:
        deltas.append(sequence.extend(logits_after(sequence.ids)))
    return sequence, deltas


def guessed(params: SamplingParams, answer: np.ndarray, rng, grammars: Grammars | None = None):
    """The same with guesses of which some are right: the answer that is to come, spoilt here and there."""
    sequence, deltas, accepted = started(params, grammars), [], 0
    while sequence.finish_reason is None:
        done = len(sequence.output)
        drafts = answer[done : done + int(rng.integers(0, 7))].copy()
        drafts = np.where(rng.random(len(drafts)) < 0.25, 120, drafts).astype(np.int32)
        ahead = np.concatenate([sequence.ids, drafts])
        known = len(sequence.ids)
        rows = np.stack([logits_after(ahead[: known + row]) for row in range(len(drafts) + 1)])
        came, right = verify(sequence, drafts, rows)
        assert len(came) <= len(drafts) + 1
        assert sequence.output[done : done + right].tolist() == drafts[:right].tolist()
        deltas += came
        accepted += right
    return sequence, deltas, accepted


@pytest.mark.parametrize("name", PARAMS)
@pytest.mark.parametrize("seed", range(4))
def test_guesses_change_no_token_and_no_delta(name: str, seed: int) -> None:
    params, grammars = PARAMS[name], None
    if spec_of(params) is not None:
        pytest.importorskip("llguidance", reason="needs llguidance, one of the package's own dependencies")
        grammars = Grammars(ByteTokenizer())
    alone, deltas = plain(params, grammars)
    rng = np.random.default_rng(seed)
    other, other_deltas, accepted = guessed(params, alone.output, rng, grammars)
    assert other.output.tolist() == alone.output.tolist()
    assert other_deltas == deltas
    assert (other.text, other.finish_reason) == (alone.text, alone.finish_reason)
    assert other.logprobs == alone.logprobs
    assert accepted > 0 or len(alone.output) < 6
    if grammars is not None:
        grammars.close()


def test_the_first_wrong_guess_is_replaced_and_what_follows_it_dropped() -> None:
    sequence = started(GREEDY, None)
    alone, _ = plain(GREEDY)
    drafts = alone.output[:4].copy()
    drafts[2] = 0
    known = len(sequence.ids)
    ahead = np.concatenate([sequence.ids, drafts])
    rows = np.stack([logits_after(ahead[: known + row]) for row in range(5)])
    deltas, right = verify(sequence, drafts, rows)
    assert right == 2
    assert [delta.token_id for delta in deltas] == alone.output[:3].tolist()


def test_without_guesses_one_token_is_chosen() -> None:
    sequence = started(GREEDY, None)
    deltas, right = verify(sequence, np.empty(0, np.int32), logits_after(sequence.ids)[None])
    assert (len(deltas), right, len(sequence.output)) == (1, 0, 1)


def test_an_answer_that_ends_on_a_guess_takes_up_nothing_after_it() -> None:
    params = replace(GREEDY, max_tokens=2)
    alone, _ = plain(GREEDY)
    sequence = started(params, None)
    rows = np.stack([logits_after(np.concatenate([sequence.ids, alone.output[:row]])) for row in range(5)])
    deltas, right = verify(sequence, alone.output[:4], rows)
    assert [delta.finish_reason for delta in deltas] == [None, "length"]
    assert right == 1


def test_a_form_of_one_text_is_said_in_one_pass() -> None:
    pytest.importorskip("llguidance", reason="needs llguidance, one of the package's own dependencies")
    grammars = Grammars(ByteTokenizer())
    sequence = started(replace(GREEDY, regex="abcde"), grammars)
    assert spec_of(sequence.sampler.params) == Spec("regex", "abcde")
    drafts = np.frombuffer(b"abcd", np.uint8).astype(np.int32)
    rows = np.zeros((5, PADDED), np.float32)
    deltas, right = verify(sequence, drafts, rows)
    assert (sequence.text, right, deltas[-1].finish_reason) == ("abcde", 4, "stop")
    grammars.close()
