"""An echo with log-probabilities, where the model ends the answer at once."""

from __future__ import annotations

from apportion.engine.completion import Completion, Logprob, Timings, TokenLogprobs
from apportion.serve.dialects.completions import TextWriter
from apportion.serve.dialects.writer import Echo, Frame


class Letters:
    """Tokens are letters."""

    def token_bytes(self, token: int) -> bytes:
        return bytes([token])


def told(token: int, logprob: float) -> TokenLogprobs:
    return TokenLogprobs(Logprob(token, logprob), (Logprob(token, logprob),))


def body(end: TokenLogprobs | None, answered: list[int]) -> dict:
    echo = Echo("ab", (97, 98), (None, told(98, -1.0)))
    frame = Frame("id", "m", 0, Letters(), echo=lambda choice: echo)  # type: ignore[arg-type]
    completion = Completion(
        "".join(map(chr, answered)),
        tuple(answered),
        "stop",
        2,
        0,
        0,
        Timings(0, 0, 0, 0, 0),
        logprobs=tuple(told(token, -2.0) for token in answered),
        end_logprobs=end,
    )
    choice = TextWriter(frame, 1).body([completion], [[]])["choices"][0]
    assert isinstance(choice, dict)
    return choice


def test_the_end_is_told_too_so_that_the_last_entry_is_never_the_prompts() -> None:
    choice = body(told(36, -0.5), [])
    assert choice["text"] == "ab"
    assert choice["logprobs"]["token_logprobs"] == [None, -1.0, -0.5]
    assert choice["logprobs"]["tokens"] == ["a", "b", "$"]


def test_an_answer_that_goes_on_is_told_as_it_is() -> None:
    assert body(None, [99])["logprobs"]["token_logprobs"] == [None, -1.0, -2.0]
