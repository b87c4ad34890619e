"""An LLM over a script: its next token is a function of its context, so that any error there shows."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from tests.engine.scripted import BLOCK, ScriptedExecutor, make_pool

from apportion.core.clock import RealClock
from apportion.engine import LLM
from apportion.engine.assembly import Assembled, Serving
from apportion.engine.engine import Engine
from apportion.engine.kv import KvSpace
from apportion.engine.loading import LoadedModel
from apportion.engine.params import SamplingParams
from apportion.engine.prefix.cost import BlockCost
from apportion.engine.prefix.index import PrefixIndex
from apportion.engine.prefix.reuse import PrefixReuse
from apportion.engine.speculation.ways import choose_way
from apportion.policies.retention import RETENTIONS
from apportion.policies.scheduler import SCHEDULERS
from apportion.text.chat_template import ChatTemplate

EOG, BOS, VOCAB = 256, 257, 258
NextToken = Callable[[list[int]], int]


def hashed(context: list[int]) -> int:
    """A letter that depends on every token before it."""
    return 97 + zlib.crc32(bytes(str(context), "ascii")) % 26


class ByteTokenizer:
    bos_id, eos_id, eog_ids, vocab_size = BOS, EOG, frozenset({EOG}), VOCAB
    adds_bos, space_prefix, longest_token = False, False, 1

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        return list(text.encode())

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b"<special>"

    bytes_of = token_bytes

    def is_special(self, token: int) -> bool:
        return token >= 256


class MarkedTokenizer(ByteTokenizer):
    """Up to six control tokens beside the bytes, found by their spelling."""

    def __init__(self, *marks: str) -> None:
        self.marks = marks
        self.vocab_size = VOCAB + len(marks)

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        if parse_special:
            for place, mark in enumerate(self.marks):
                if mark in text:
                    before, _, behind = text.partition(mark)
                    ids = [self.encode(part, parse_special=True) for part in (before, behind)]
                    return [*ids[0], VOCAB + place, *ids[1]]
        return list(text.encode())

    def token_bytes(self, token: int) -> bytes:
        return self.marks[token - VOCAB].encode() if token >= VOCAB else super().token_bytes(token)

    bytes_of = token_bytes


TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
MakeLLM = Callable[..., LLM]


def assembled(serving: Serving, script: NextToken, vocab: int = VOCAB) -> Assembled:
    """An engine over pages of token ids, with room for one context."""
    pool, clock, cost = make_pool(-(-serving.ctx // BLOCK)), RealClock(), BlockCost()
    retention = RETENTIONS.choose(serving.retention).state()
    index = PrefixIndex(pool, retention, clock, cost, None, BLOCK)
    reuse = PrefixReuse(index, pool, b"scripted", clock, cost, retention, block_tokens=BLOCK)
    engine = Engine(
        ScriptedExecutor(pool, script, vocab, padding=6),
        KvSpace(pool, index),
        SCHEDULERS.choose("chunked").state(),
        block_tokens=BLOCK,
        reuse=reuse,
        step_tokens=512,
    )
    way, argument = choose_way(serving.speculate)
    guesses = way.open(argument, SimpleNamespace(tokenizer=ByteTokenizer()), serving.ctx, 1)
    return Assembled(serving, engine, reuse, guesses, reuse.close)


@pytest.fixture
def make_llm() -> MakeLLM:
    """`make_llm(next_token, template=..., recommended=..., adds_bos=..., ctx=..., on_progress=...)`."""

    def make(
        next_token: NextToken = hashed,
        *,
        template: str | None = TEMPLATE,
        recommended: SamplingParams | None = None,
        adds_bos: bool = False,
        ctx: int | None = None,
        on_progress: object = None,
        speculate: str = "none",
        tokenizer: ByteTokenizer | None = None,
    ) -> LLM:
        tokenizer = tokenizer or ByteTokenizer()
        tokenizer.adds_bos = adds_bos
        loaded = LoadedModel(
            name="scripted",
            model=SimpleNamespace(config=SimpleNamespace(vocab_size=VOCAB + 6, context_length=4096)),
            tokenizer=tokenizer,
            template=ChatTemplate(template, bos_token="", eos_token="") if template else None,
            recommended=recommended or SamplingParams(temperature=0),
            checkpoint=SimpleNamespace(close=lambda: None),
        )
        return LLM.over(
            loaded,
            assembled(
                Serving(speculate=speculate).completed(loaded, ctx, None), next_token, tokenizer.vocab_size
            ),
            on_progress,
        )

    return make


@pytest.fixture
def saying() -> Callable[[str], NextToken]:
    """A script that answers a one-byte prompt with a text, and then ends."""

    def script(text: str) -> NextToken:
        data = text.encode()
        return lambda context: data[len(context) - 1] if len(context) <= len(data) else EOG

    return script
