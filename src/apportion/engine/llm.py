"""The facade: a model by name, and text from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast, get_args, overload

import numpy as np

from apportion.core.claim import Tier
from apportion.core.errors import UsageError, unknown
from apportion.core.settings import THREADS, get
from apportion.engine.assembly import AUTO, Assembled, Serving, assemble
from apportion.engine.budget import budget_of, ram_bytes
from apportion.engine.chat_turn import PLAIN, ChatTurn, Frame, chat_text, chat_turn
from apportion.engine.completion import Completion
from apportion.engine.context import Context
from apportion.engine.grammar import spec_of
from apportion.engine.loading import LoadedModel, load
from apportion.engine.observers import Embedding, Pooling, PromptLogprobs
from apportion.engine.params import SamplingParams, check
from apportion.engine.paying import grammars_for, states_payer
from apportion.engine.prefix.kept import KeptPrefix, key_of
from apportion.engine.prefix.reuse import PrefixReuse
from apportion.engine.prompts import Message, Prompt, Prompts, is_one_prompt, prompt_ids, required
from apportion.engine.request import Request
from apportion.engine.sequence import Sequence as TokenSequence
from apportion.engine.speculation.ways import BASELINE
from apportion.engine.stores import disk_store
from apportion.engine.stream import Progress, Stream
from apportion.formats.block import Floats
from apportion.kernels import NativeOps
from apportion.kernels.ops import Ints
from apportion.policies.retention import RETENTIONS

if TYPE_CHECKING:
    from apportion.engine.batch import BatchReport
    from apportion.engine.prefix.index import PrefixIndex
    from apportion.engine.residency import Residency
    from apportion.engine.stores import AnyStore
    from apportion.kernels import Ops
    from apportion.memory import Ledger
    from apportion.models import Model
    from apportion.plan import Plan, PolicyNames
    from apportion.plan.plan import PrefillOrder
    from apportion.text.chat_template import ChatTemplate
    from apportion.text.tokenizer import Tokenizer

POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
UNANSWERED = SamplingParams(temperature=0, max_tokens=0, prompt_logprobs=0)  # of what is only read


class LLM:
    """A language model, loaded, that answers.

        llm = LLM("smollm2")
        print(llm.chat([{"role": "user", "content": "Why is the sky blue?"}]).text)

    Keys and values of earlier calls stay as long as there is room: a call whose prompt begins like one of
    them computes only the rest.

    Args:
        model: a path, `hf:org/name[:quant]`, `pypi:name==version`, or an alias such as `smollm2`.
        threads: compute threads; None is the setting `threads`, one for each core unless set.
        ctx: positions of the context, which prompt and answer share; None is what the model was trained for,
            at most 8192.
        kv: how keys and values are stored, by the name of a codec (`f16`, `q8`, ..), or one for some layers
            each (`f16*2,q8`).
        exact: compute with float32 activations and dequantized weights: slower, nothing rounded in between.
        offline: never use the network.
        on_progress: called with (phase, done, total) while pulling and loading, in bytes, and while reading a
            prompt, in tokens.
        ops: what computes, in place of the C++ core; `threads` and `exact` then say nothing.
        ram: what the whole process may take, as bytes, `4GiB`, `50%` or `auto`; None loads all weights
            whatever they take. Within it the most useful weights stay in memory and the others are read when
            they are needed; the answers are the same.
        ledger: an account that models of one process share, in place of `ram`; its owner has paid for the
            process itself.
        plan: how to divide it, made before (`apportion plan --out`), in place of `ram`, `ctx` and `kv`.
        policies: which policies divide it.
        prefill: where weights come and go, `layer_major` has all of a prompt pass a layer before the next;
            `chunked` runs chunk after chunk through all layers, and is there to compare.
        concurrency: requests of `ctx` positions that there is KV room for; more that are shorter fit, too.
        max_running: requests that run at once; None: as many as have room, or, where weights come and go, as
            many as the plan finds fastest.
        scheduler: decides what runs in a step, by name; `auto` is what suits how weights are kept.
        retention: decides which keys and values of earlier requests go first when room is short, by name.
        kv_disk: bytes of disk for keys and values of earlier requests, as `20GiB`; they outlive the process.
        kv_dir: where; None is the setting `kv_dir`.
        kv_remote: address of a store that several machines share, `redis://host:port/0`.
        speculate: guess tokens ahead and check them together, where that is quicker: `prompt_lookup`, or
            `draft:` and a smaller model. Answers stay the same.
        structured: within `ram`, leave room for what holding answers to forms takes.
        observing: the same for log-probabilities of prompts, and embeddings; without it what is left over
            must do.

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
        kv: str | None = None,
        exact: bool = False,
        offline: bool = False,
        on_progress: Progress | None = None,
        ops: Ops | None = None,
        ram: int | str | None = None,
        ledger: Ledger | None = None,
        plan: Plan | str | Path | None = None,
        policies: PolicyNames | None = None,
        prefill: PrefillOrder = "layer_major",
        concurrency: int = 1,
        max_running: int | None = None,
        scheduler: str = AUTO,
        retention: str = RETENTIONS.baseline,
        kv_disk: int | str = 0,
        kv_dir: str | Path | None = None,
        kv_remote: str | None = None,
        speculate: str = BASELINE,
        structured: bool = False,
        observing: bool = False,
    ) -> None:
        if ops is None:
            ops = NativeOps(threads=get(THREADS) if threads is None else threads, exact=exact)
        serving = Serving(
            concurrency=concurrency,
            max_running=max_running,
            scheduler=scheduler,
            retention=retention,
            kv_disk=kv_disk,
            kv_dir=kv_dir,
            kv_remote=kv_remote,
            speculate=speculate,
            structured=structured,
            observing=observing,
        )
        budget = budget_of(
            ram,
            plan,
            ctx=ctx,
            kv=kv,
            policies=policies,
            prefill=prefill,
            concurrency=concurrency,
            beside=serving.beside_nbytes,
            beside_per_token=serving.beside_per_token,
            ledger=ledger,
        )
        loaded = load(model, ops, budget=budget, offline=offline, on_progress=on_progress)
        try:
            self._attach(loaded, assemble(loaded, serving.completed(loaded, ctx, kv)), on_progress)
        except BaseException:
            loaded.close()
            loaded.release()
            raise

    @classmethod
    def from_loaded(
        cls,
        loaded: LoadedModel,
        *,
        ctx: int | None = None,
        kv: str | None = None,
        serving: Serving | None = None,
        on_progress: Progress | None = None,
    ) -> LLM:
        """An LLM over a model that is already in memory; the arguments are the constructor's."""
        complete = (serving or Serving()).completed(loaded, ctx, kv)
        return cls.over(loaded, assemble(loaded, complete), on_progress)

    @classmethod
    def over(cls, loaded: LoadedModel, assembled: Assembled, on_progress: Progress | None = None) -> LLM:
        """An LLM over an engine that was put together before."""
        llm = cls.__new__(cls)
        llm._attach(loaded, assembled, on_progress)
        return llm

    def _attach(self, loaded: LoadedModel, assembled: Assembled, on_progress: Progress | None) -> None:
        self._loaded = loaded
        self._assembled = assembled
        self._on_progress = on_progress
        self.ctx = assembled.serving.ctx
        self.engine = assembled.engine
        self._grammars = grammars_for(loaded, assembled.serving)
        assert isinstance(assembled.reuse, PrefixReuse)
        self._reuse = assembled.reuse
        self._kept = assembled.reuse.kept_prefixes(disk_store(assembled.store))
        self._pay_for_states = states_payer(loaded, assembled.serving)

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
    def serving(self) -> Serving:
        """How it serves requests."""
        return self._assembled.serving

    @property
    def prefixes(self) -> PrefixIndex | None:
        """Blocks of keys and values that are kept in memory for later requests."""
        return self._assembled.index

    @property
    def store(self) -> AnyStore | None:
        """Where such blocks go beyond memory; None where they do not."""
        return self._assembled.store

    @property
    def residency(self) -> Residency | None:
        """Weights that come and go; None where all of them stay in memory."""
        return None if self._loaded.apportioned is None else self._loaded.apportioned.residency

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
            UsageError: no budget was stated at the beginning, or it is not this model's alone.
        """
        if self.ledger is None or self._loaded.apportioned is None:
            raise UsageError("no budget was stated", hint="load the model with ram")
        if self._loaded.apportioned.is_shared:
            raise UsageError("the budget is not this model's alone", hint="change it where it was stated")
        with self.engine.between_steps():
            return self.ledger.set_limit(Tier.RAM, ram_bytes(ram))

    @overload
    def generate(self, prompt: Prompt, params: SamplingParams | None = None) -> Completion: ...
    @overload
    def generate(self, prompt: Prompts, params: SamplingParams | None = None) -> list[Completion]: ...

    def generate(
        self, prompt: Prompt | Prompts, params: SamplingParams | None = None
    ) -> Completion | list[Completion]:
        """Continue a prompt, or several at once: as many run together as there is KV room for.

        Args:
            prompt: text or token ids, or a list of such. Text is tokenized with the model's BOS, and special
                tokens in it are recognised; ids are taken as they are.

        Raises:
            ContextOverflow: prompt and `max_tokens` are longer than the context.
            DoesNotFit: they are longer than the memory for keys and values.
            UsageError: the prompt is empty, or an id is outside the vocabulary.
        """
        if is_one_prompt(prompt):
            return self.stream(prompt, params).run()
        many = cast("list[Prompt]", prompt)
        return self.run([self.request(prompt_ids(one, self.tokenizer, self.ctx), params) for one in many])

    def samples(
        self, prompt: Prompt | Sequence[Message], n: int, params: SamplingParams | None = None
    ) -> list[Completion]:
        """Continue a prompt, or answer messages, `n` times. It is read once: the answers share its keys and
        values, and each has a seed of its own, counted from that of `params`.

        Raises what `generate` and `chat` raise.
        """
        if n < 1:
            raise UsageError("there must be at least one sample", n=n)
        continues = is_one_prompt(prompt)
        ids = (
            prompt_ids(cast("Prompt", prompt), self.tokenizer)
            if continues
            else self.chat_ids(cast("Sequence[Message]", prompt))
        )
        first, *others = [
            self.request(ids, numbered(params, place), continues=continues) for place in range(n)
        ]
        first.branches = others
        return self.run([first, *others])

    def request(
        self,
        ids: Ints,
        params: SamplingParams | None = None,
        *,
        continues: bool = True,
        num_before: int = 0,
        frame: Frame = PLAIN,
        **terms: Any,
    ) -> Request:
        """A request that no one has added yet.

        Args:
            ids: token ids [n] int32 of the prompt.
            continues: the answer goes on in the prompt's text, so that a space at its beginning counts.
            num_before: positions of the context that are taken already.
            frame: what stands around the answer's text; see `chat_turn`.
            terms: priority, tenant and others, as in `engine.request.Request`.

        Raises what `generate` raises.
        """
        completed = (params or SamplingParams()).completed(self._loaded.recommended)
        spec = spec_of(completed, frame.before)
        grammar = None if spec is None else self._grammars.matcher(spec)
        sequence = TokenSequence(
            ids,
            completed,
            self.tokenizer,
            self.ctx - num_before,
            continues=continues,
            grammar=grammar,
            shown=frame.shown,
        )
        terms.setdefault("drafter", self._assembled.guesses.drafter())
        if completed.prompt_logprobs is not None and "observer" not in terms:
            terms["observer"] = PromptLogprobs(
                sequence.prompt, completed.prompt_logprobs, self.model.head, self.tokenizer.vocab_size
            )
        if terms.get("observer") is not None:
            self._pay_for_states()
        return Request(sequence, **terms)

    def embedding_request(self, text: Prompt, pooling: Pooling = "mean", **terms: Any) -> Request:
        """A request that reads a text or token ids and answers nothing; when it is over, `vector` of its
        observer is the embedding.

        Raises what `embed` raises.
        """
        if pooling not in POOLINGS:
            raise unknown("pooling", str(pooling)[:64], POOLINGS, UsageError)
        ids = prompt_ids(text, self.tokenizer, self.ctx)
        return self.request(ids, UNANSWERED, observer=Embedding(len(ids), pooling, self.model.norm), **terms)

    def embed(self, inputs: Prompt | Prompts, pooling: Pooling = "mean", normalize: bool = True) -> Floats:
        """What the model makes of texts, as vectors [n, d] float32: hidden states after the last norm.

        Args:
            inputs: text or token ids, or a list of such; tokenized as prompts are.
            pooling: the mean of all tokens' states, or the last token's, which has seen all others.
            normalize: make each vector's length 1, so that products of two are their cosine.

        Raises:
            ContextOverflow: a text is longer than the context.
            DoesNotFit: it is longer than the memory for keys and values, or the budget has no room for
                hidden states.
            UsageError: a text is empty, or an id is outside the vocabulary.
        """
        texts = [inputs] if is_one_prompt(inputs) else cast("list[Prompt]", inputs)
        requests = [self.embedding_request(text, pooling) for text in texts]
        self.run(requests)
        found = [cast("Embedding", request.observer).vector(normalize) for request in requests]
        return np.array(found, np.float32).reshape(len(found), self.model.config.hidden_size)

    def kept_prefixes(self, most: int = 1000) -> list[KeptPrefix]:
        """Beginnings of prompts whose keys and values are kept, the one that was used last first."""
        with self.engine.between_steps():
            return self._kept.listed(most)

    def pin_prefix(
        self, prompt: Prompt | None = None, *, key: str | None = None, salt: str = "", seconds: float
    ) -> int:
        """Ask for keys and values to stay for so many seconds (0: no longer). They give way only when there
        is nothing else left, and are lost with the process.

        Args:
            prompt: text or token ids that begin so; as many of its blocks as are in memory are pinned.
            key: of a kept prefix, in place of the prompt.
            salt: of the requests that read the prompt.

        Returns:
            The tokens that are pinned; 0 where none of them are in memory.

        Raises:
            UsageError: not one of prompt and key is given, or one is none.
        """
        if (prompt is None) == (key is None):
            raise UsageError("a prefix is named by its prompt or by its key", hint="give one of the two")
        check("seconds", seconds, 0, math.inf, below_high=True)
        with self.engine.between_steps():
            if prompt is None:
                return self._kept.pin(self._kept.chain(str(key)), seconds)
            return self._kept.pin(
                self._reuse.keys_of(prompt_ids(prompt, self.tokenizer, self.ctx), salt), seconds
            )

    def drop_prefixes(self, *, key: str | None = None, salt: str | None = None) -> int:
        """Drop keys and values that are kept, from memory and from disk: of a prefix and all that continue
        it, by its key; of all requests of a salt; or of all, where neither is given. What running requests
        use stays; what is shared with other machines does, too.

        Returns:
            Blocks that were dropped.

        Raises:
            UsageError: both are given, or the key is none.
        """
        if key is not None and salt is not None:
            raise UsageError("what is dropped is named by a key or by a salt", hint="give one of the two")
        with self.engine.between_steps():
            if salt is not None:
                return self._kept.drop(self._reuse.root(salt))
            return self._kept.drop(None if key is None else key_of(key))

    def context(self, prompt: Prompt = "") -> Context:
        """Text whose keys and values stay, to be gone on with, forked and joined.

        Raises:
            UsageError: an id is outside the vocabulary.
        """
        context = Context(self)
        if len(prompt):
            context.extend(prompt)
        return context

    def submit(self, request: Request) -> Stream:
        """Let a request run beside others; the stream is its answer.

        Raises:
            DoesNotFit: it could become longer than all the memory for keys and values.
        """
        return Stream(self.engine, self.engine.add(request), self._on_progress)

    def run(self, requests: Sequence[Request]) -> list[Completion]:
        """Run requests together, to the end of the last one; their completions in the same order. Those that
        are branches of others among them share their prompts.

        Raises:
            DoesNotFit: one of them could become longer than all the memory for keys and values.
            ApportionError: what kept one of them from ending. All others have then been cancelled.
        """
        branches = {id(branch) for request in requests for branch in request.branches}
        try:
            for request in requests:
                if id(request) not in branches:
                    self.engine.add(request)
            for request in requests:
                self.engine.finish(request)
                if request.error is not None:
                    raise request.error
        except BaseException:
            for request in requests:
                self.engine.cancel(request)
            raise
        return [request.completion for request in requests]

    def stream(self, prompt: Prompt, params: SamplingParams | None = None) -> Stream:
        """Continue a prompt, delta by delta; as `generate` otherwise."""
        return self.submit(self.request(prompt_ids(prompt, self.tokenizer, self.ctx), params))

    def chat(
        self, messages: Sequence[Message], params: SamplingParams | None = None, **asked: Any
    ) -> Completion:
        """Answer a conversation.

        Args:
            messages: mappings with `role` (system, user, assistant) and `content`, oldest first.
            asked: tools and how they may be called, and what the template reads besides, as in
                `engine.chat_turn.chat_turn`. The text of the answer then has the model's own marks of
                calls and reasoning in it, which `ChatTurn.parts` reads.

        Raises:
            Unsupported: the model has no chat template.
            TemplateError: the template refuses the messages.
            ContextOverflow: the conversation and `max_tokens` are longer than the context.
        """
        return self.chat_stream(messages, params, **asked).run()

    def chat_stream(
        self, messages: Sequence[Message], params: SamplingParams | None = None, **asked: Any
    ) -> Stream:
        """Answer a conversation, delta by delta; as `chat` otherwise."""
        turn = self.chat_turn(messages, **asked)
        frame = turn.frame if asked else PLAIN
        return self.submit(self.request(turn.ids, turn.held(params), continues=False, frame=frame))

    def chat_turn(self, messages: Sequence[Message], **asked: Any) -> ChatTurn:
        """A conversation as a prompt, and how the answer to it is read.

            turn = llm.chat_turn(messages, tools=tools, tool_choice="required")
            request = llm.request(turn.ids, turn.held(params), continues=False, frame=turn.frame)
            parts = turn.parts()

        Args:
            asked: as in `chat`.

        Raises what `engine.chat_turn.chat_turn` raises.
        """
        return chat_turn(messages, self.tokenizer, self.template, self.name, ctx=self.ctx, **asked)

    def chat_text(self, messages: Sequence[Message], **asked: Any) -> str:
        """A conversation as text, as the model's chat template writes it; as `chat_turn.chat_text`."""
        return chat_text(messages, self.template, self.name, **asked)

    def batch(
        self, source: str | Path, target: str | Path, on_progress: Callable[[BatchReport], None] | None = None
    ) -> BatchReport:
        """Answer a file of requests in OpenAI's batch format; see `engine.batch.run_batch`."""
        from apportion.engine.batch import run_batch

        return run_batch(self, source, target, on_progress=on_progress)

    def chat_ids(self, messages: Sequence[Message], **asked: Any) -> Ints:
        """The token ids [n] of a conversation as the model's chat template writes it; as `chat` otherwise."""
        return self.chat_turn(messages, **asked).ids

    def close(self) -> None:
        """Store what is kept on disk, where there is a store, and close the checkpoint's files; the memory
        goes with the object.
        """
        self._grammars.close()
        self._assembled.close()
        self._loaded.close()

    def __enter__(self) -> LLM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def numbered(params: SamplingParams | None, place: int) -> SamplingParams:
    """The same params for the answer at a place: draws that are seeded differ from those of the others."""
    params = params or SamplingParams()
    return params if params.seed is None else replace(params, seed=params.seed + place)
