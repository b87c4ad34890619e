"""A host whose pages hold tokens, so that a wrong page shows at once, and that counts what it computes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.scripted import BLOCK, ScriptedExecutor, Tokens, continued, make_pool

from apportion.core.clock import VirtualClock
from apportion.core.errors import Unsupported
from apportion.engine.chat_turn import PLAIN, ChatTurn, Frame
from apportion.engine.engine import Engine
from apportion.engine.grammar import Grammars, spec_of
from apportion.engine.kv.space import KvSpace
from apportion.engine.params import SamplingParams
from apportion.engine.prefix.cost import BlockCost
from apportion.engine.prefix.index import PrefixIndex
from apportion.engine.prefix.reuse import PrefixReuse
from apportion.engine.request import Request
from apportion.engine.sequence import Sequence as TokenSequence
from apportion.policies.retention import RETENTIONS
from apportion.policies.scheduler import SCHEDULERS

CTX = 512


class Host:
    """What a batch asks of an LLM."""

    name, ctx = "scripted", CTX
    tokenizer = Tokens()
    grammars = Grammars(tokenizer)

    def __init__(self, num_blocks: int) -> None:
        pool, clock, cost = make_pool(num_blocks), VirtualClock(), BlockCost()
        retention = RETENTIONS.choose("lru").state()
        index = PrefixIndex(pool, retention, clock, cost, block_tokens=BLOCK)
        reuse = PrefixReuse(index, pool, b"host", clock, cost, retention, block_tokens=BLOCK)
        scheduler = SCHEDULERS.choose("chunked").state()
        self.engine = Engine(
            ScriptedExecutor(pool),
            KvSpace(pool, index),
            scheduler,
            block_tokens=BLOCK,
            reuse=reuse,
            clock=clock,
        )

    def request(
        self, ids: np.ndarray, params: SamplingParams, *, continues: bool = True, frame: Frame = PLAIN
    ) -> Request:
        completed = params.completed(SamplingParams(temperature=0))
        spec = spec_of(completed)
        grammar = None if spec is None else self.grammars.matcher(spec)
        return Request(TokenSequence(ids, completed, self.tokenizer, CTX, grammar=grammar))

    def chat_turn(self, messages: Sequence[dict], **asked: Any) -> ChatTurn:
        raise Unsupported("there is no chat template")

    @property
    def prompt_tokens_computed(self) -> int:
        """Without those of answers, of which the last is never computed."""
        counters = self.engine.counters
        return counters.computed_tokens - (counters.output_tokens - counters.requests)

    @property
    def is_empty(self) -> bool:
        space = self.engine.space
        return not self.engine.num_running and not self.engine.num_waiting and space.promised == 0


@pytest.fixture
def host() -> Host:
    return Host(1000)


def request(name: str, prompt: Sequence[int], max_tokens: int = 5, **fields: Any) -> dict[str, Any]:
    body = {"model": "any", "prompt": list(prompt), "max_tokens": max_tokens, "temperature": 0, **fields}
    return {"custom_id": name, "method": "POST", "url": "/v1/completions", "body": body}


def said(prompt: Sequence[int], num_tokens: int = 5) -> str:
    """What the scripted model answers."""
    return "".join(f"{token} " for token in continued(prompt, num_tokens))


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(*lines: dict[str, Any] | str, name: str = "in.jsonl") -> Path:
        path = tmp_path / name
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_text("".join(text + "\n" for text in texts))
        return path

    return write


def answers(path: Path) -> dict[str, dict[str, Any]]:
    """The answers of a file by the names of their requests, each of which stands there once."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    named = {line["custom_id"]: line for line in lines}
    assert len(named) == len(lines)
    return named
