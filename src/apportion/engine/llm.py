"""The facade: a model by name, and text from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, cast, overload

import numpy as np

from apportion.core.claim import Tier
from apportion.core.errors import UsageError
from apportion.core.settings import THREADS, get
from apportion.engine.budget import budget_of, ram_bytes
from apportion.engine.completion import Completion
from apportion.engine.grammar import Grammars, spec_of
from apportion.engine.loading import LoadedModel, load
from apportion.engine.params import SamplingParams
from apportion.engine.prompts import Message, Prompt, Prompts, chat_ids, is_one_prompt, prompt_ids, required
from apportion.engine.runner import PREFILL_CHUNK, Runner
from apportion.engine.sequence import Sequence as TokenSequence
from apportion.engine.stream import Progress, Stream
from apportion.kernels import NativeOps
from apportion.kernels.ops import Ints

if TYPE_CHECKING:
    from apportion.kernels import Ops
    from apportion.memory import Ledger
    from apportion.models import Model
    from apportion.plan import Plan, PolicyNames
    from apportion.plan.plan import PrefillOrder
    from apportion.text.chat_template import ChatTemplate
    from apportion.text.tokenizer import Tokenizer

DEFAULT_CTX = 8192  # the KV cache takes memory as it fills, but a bound keeps a runaway answer affordable
KV_TYPES: dict[str, type[np.float16] | type[np.float32]] = {"f16": np.float16, "f32": np.float32}


class LLM:
    """A language model, loaded, that answers.

        llm = LLM("smollm2")
        print(llm.chat([{"role": "user", "content": "Why is the sky blue?"}]).text)

    The KV cache of the last call stays: a call whose prompt begins like it computes only the rest.

    Args:
        model: a path, `hf:org/name[:quant]`, `pypi:name==version`, or an alias such as `smollm2`.
        threads: compute threads; None is the setting `threads`, one for each core unless set.
        ctx: positions of the context, which prompt and answer share; None is what the model was trained for,
            at most 8192.
        kv: number type of the KV cache, `f16` or `f32`.
        exact: compute with float32 activations and dequantized weights: slower, nothing rounded in between.
        offline: never use the network.
        on_progress: called with (phase, done, total) while pulling and loading, in bytes, and while reading a
            prompt, in tokens.
        ops: what computes, in place of the C++ core; `threads` and `exact` then say nothing.
        ram: what the whole process may take, as bytes, `4GiB`, `50%` or `auto`; None loads all weights
            whatever they take. Within it the most useful weights stay in memory and the others are read when
            they are needed; the answers are the same.
        plan: how to divide it, made before (`apportion plan --out`), in place of `ram`, `ctx` and `kv`.
        policies: which policies divide it.
        prefill: where weights come and go, `layer_major` has all of a prompt pass a layer before the next;
            `chunked` runs chunk after chunk through all layers, and is there to compare.

    Raises:
        DoesNotFit: the budget is too small; the error names the smallest that would do.
        NotFound, SourceError: the reference names nothing that can be had.
        BadFile, Unsupported: the checkpoint cannot be read or run.
        UsageError: an argument is out of range.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        threads: int | None = None,
        ctx: int | None = None,
        kv: Literal["f16", "f32"] = "f16",
        exact: bool = False,
        offline: bool = False,
        on_progress: Progress | None = None,
        ops: Ops | None = None,
        ram: int | str | None = None,
        plan: Plan | str | Path | None = None,
        policies: PolicyNames | None = None,
        prefill: PrefillOrder = "layer_major",
    ) -> None:
        if kv not in KV_TYPES:
            raise UsageError(f"unknown KV type {kv!r}", hint="choose f16 or f32")
        if ops is None:
            ops = NativeOps(threads=get(THREADS) if threads is None else threads, exact=exact)
        budget = budget_of(ram, plan, ctx=ctx, kv=kv, policies=policies, prefill=prefill)
        loaded = load(model, ops, budget=budget, offline=offline, on_progress=on_progress)
        self._attach(loaded, ctx, kv, on_progress)

    @classmethod
    def from_loaded(
        cls,
        loaded: LoadedModel,
        *,
        ctx: int | None = None,
        kv: Literal["f16", "f32"] = "f16",
        on_progress: Progress | None = None,
    ) -> LLM:
        """An LLM over a model that is already in memory; the arguments are the constructor's."""
        llm = cls.__new__(cls)
        llm._attach(loaded, ctx, kv, on_progress)
        return llm

    def _attach(self, loaded: LoadedModel, ctx: int | None, kv: str, on_progress: Progress | None) -> None:
        self._loaded = loaded
        self._on_progress = on_progress
        if loaded.apportioned is not None:
            plan = loaded.apportioned.plan
            ctx, kv = plan.ctx, plan.kv
        self.ctx = context_length(ctx, loaded.model.config.context_length)
        self._grammars = Grammars(loaded.tokenizer)
        self._runner = Runner(loaded.model, self.ctx, KV_TYPES[kv], tokens_per_pass(loaded, self.ctx))

    @property
    def name(self) -> str:
        return self._loaded.name

    @property
    def model(self) -> Model:
        return self._loaded.model

    @property
    def tokenizer(self) -> Tokenizer:
        return self._loaded.tokenizer

    @property
    def template(self) -> ChatTemplate | None:
        """The chat template; None if the checkpoint has none."""
        return self._loaded.template

    def require_template(self) -> ChatTemplate:
        """The chat template.

        Raises:
            Unsupported: the checkpoint has none.
        """
        return required(self.template, self.name)

    @property
    def loaded(self) -> LoadedModel:
        return self._loaded

    @property
    def plan(self) -> Plan | None:
        """How memory is divided; None where no budget was stated."""
        return None if self._loaded.apportioned is None else self._loaded.apportioned.plan

    @property
    def ledger(self) -> Ledger | None:
        """The account of the budget; None where none was stated."""
        return None if self._loaded.apportioned is None else self._loaded.apportioned.ledger

    def set_ram(self, ram: int | str) -> int:
        """Change the budget while the model is loaded: expert slots are given back, at least 2 of each layer
        stay. Not while an answer is computed.

        Returns:
            The bytes that are leased beyond the new budget still; 0 where it holds.

        Raises:
            UsageError: no budget was stated at the beginning.
        """
        if self.ledger is None:
            raise UsageError("no budget was stated", hint="load the model with ram")
        return self._runner.between_steps(lambda: set_limit(self.ledger, ram))

    @overload
    def generate(self, prompt: Prompt, params: SamplingParams | None = None) -> Completion: ...
    @overload
    def generate(self, prompt: Prompts, params: SamplingParams | None = None) -> list[Completion]: ...

    def generate(
        self, prompt: Prompt | Prompts, params: SamplingParams | None = None
    ) -> Completion | list[Completion]:
        """Continue a prompt, or each of several, one after the other.

        Args:
            prompt: text or token ids, or a list of such. Text is tokenized with the model's BOS, and special
                tokens in it are recognised; ids are taken as they are.

        Raises:
            ContextOverflow: prompt and `max_tokens` are longer than the context.
            UsageError: the prompt is empty, or an id is outside the vocabulary.
        """
        if is_one_prompt(prompt):
            return self.stream(prompt, params).run()
        return [self.stream(one, params).run() for one in cast("list[Prompt]", prompt)]

    def stream(self, prompt: Prompt, params: SamplingParams | None = None) -> Stream:
        """Continue a prompt, delta by delta; as `generate` otherwise."""
        return self._start(prompt_ids(prompt, self.tokenizer), params, continues=True)

    def chat(self, messages: Sequence[Message], params: SamplingParams | None = None) -> Completion:
        """Answer a conversation.

        Args:
            messages: mappings with `role` (system, user, assistant) and `content`, oldest first.

        Raises:
            Unsupported: the model has no chat template.
            TemplateError: the template refuses the messages.
            ContextOverflow: the conversation and `max_tokens` are longer than the context.
        """
        return self.chat_stream(messages, params).run()

    def chat_stream(self, messages: Sequence[Message], params: SamplingParams | None = None) -> Stream:
        """Answer a conversation, delta by delta; as `chat` otherwise."""
        ids = chat_ids(messages, self.tokenizer, self.template, self.name)
        return self._start(ids, params, continues=False)

    def _start(self, ids: Ints, params: SamplingParams | None, *, continues: bool) -> Stream:
        completed = (params or SamplingParams()).completed(self._loaded.recommended)
        spec = spec_of(completed)
        grammar = None if spec is None else self._grammars.matcher(spec)
        sequence = TokenSequence(
            ids, completed, self.tokenizer, self.ctx, continues=continues, grammar=grammar
        )
        return Stream(self._runner, sequence, self._on_progress)

    def close(self) -> None:
        """Close the checkpoint's files; the memory goes with the object."""
        self._grammars.close()
        self._loaded.close()

    def __enter__(self) -> LLM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def tokens_per_pass(loaded: LoadedModel, ctx: int) -> int:
    """The most tokens of a prompt that are computed at once."""
    if loaded.apportioned is None or loaded.apportioned.residency is None:
        return PREFILL_CHUNK
    return ctx if loaded.apportioned.plan.prefill == "layer_major" else PREFILL_CHUNK


def set_limit(ledger: Ledger | None, ram: int | str) -> int:
    assert ledger is not None
    return ledger.set_limit(Tier.RAM, ram_bytes(ram))


def context_length(wanted: int | None, trained: int) -> int:
    """Positions of the context: what is wanted, within what the model was trained for."""
    if wanted is None:
        return min(trained, DEFAULT_CTX)
    if not 1 <= wanted <= trained:
        raise UsageError(
            "ctx is out of range",
            "the model was trained for a shorter context" if wanted > trained else "it must be at least 1",
            f"choose 1 to {trained}",
            ctx=wanted,
            trained=trained,
        )
    return wanted
