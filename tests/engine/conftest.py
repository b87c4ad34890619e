"""A scripted model: its next token is a function of its context, so that any error in the context shows."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from apportion.engine import LLM
from apportion.engine.loading import LoadedModel
from apportion.engine.params import SamplingParams
from apportion.text.chat_template import ChatTemplate

EOG, BOS, VOCAB, PADDED = 256, 257, 258, 264
NextToken = Callable[[list[int]], int]


def hashed(context: list[int]) -> int:
    """A letter that depends on every token before it."""
    return 97 + zlib.crc32(bytes(str(context), "ascii")) % 26


class ScriptedCache:
    def __init__(self, capacity: int) -> None:
        self.capacity, self.ids = capacity, []

    @property
    def length(self) -> int:
        return len(self.ids)

    def truncate(self, length: int) -> None:
        del self.ids[length:]


class ScriptedModel:
    """Bytes are tokens. Counts what it computes; `interrupt` raises inside a pass, half of it written."""

    config = SimpleNamespace(vocab_size=PADDED, context_length=4096)

    def __init__(self, next_token: NextToken) -> None:
        self.next_token = next_token
        self.runs: list[int] = []
        self.interrupt = False

    def new_cache(self, capacity: int, dtype: object) -> ScriptedCache:
        return ScriptedCache(capacity)

    def forward(self, ids: np.ndarray, cache: ScriptedCache, *, logits: str = "last") -> np.ndarray:
        assert cache.length + len(ids) <= cache.capacity
        if self.interrupt:
            cache.ids += ids[: len(ids) // 2].tolist()
            self.interrupt = False
            raise KeyboardInterrupt
        cache.ids += ids.tolist()
        self.runs.append(len(ids))
        row = np.zeros((1, PADDED), dtype=np.float32)
        row[0, self.next_token(cache.ids)] = 20
        row[0, VOCAB:] = 50  # padding must never be chosen
        return row


class ByteTokenizer:
    bos_id, eos_id, eog_ids, vocab_size = BOS, EOG, frozenset({EOG}), VOCAB
    adds_bos, space_prefix = False, False

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        return list(text.encode())

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b"<special>"

    bytes_of = token_bytes

    def is_special(self, token: int) -> bool:
        return token >= 256


TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
MakeLLM = Callable[..., LLM]


@pytest.fixture
def make_llm() -> MakeLLM:
    """`make_llm(next_token, template=..., recommended=..., adds_bos=..., ctx=..., on_progress=...)`."""

    def make(
        next_token: NextToken = hashed,
        *,
        template: str | None = TEMPLATE,
        recommended: SamplingParams | None = None,
        adds_bos: bool = False,
        **options: object,
    ) -> LLM:
        tokenizer = ByteTokenizer()
        tokenizer.adds_bos = adds_bos
        loaded = LoadedModel(
            name="scripted",
            model=ScriptedModel(next_token),
            tokenizer=tokenizer,
            template=ChatTemplate(template, bos_token="", eos_token="") if template else None,
            recommended=recommended or SamplingParams(temperature=0),
            checkpoint=SimpleNamespace(close=lambda: None),
        )
        return LLM.from_loaded(loaded, **options)

    return make


@pytest.fixture
def saying() -> Callable[[str], NextToken]:
    """A script that answers a one-byte prompt with a text, and then ends."""

    def script(text: str) -> NextToken:
        data = text.encode()
        return lambda context: data[len(context) - 1] if len(context) <= len(data) else EOG

    return script
