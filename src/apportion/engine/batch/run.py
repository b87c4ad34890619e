"""Running a batch: lines in, grouped by what they share, many at once; answers out as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from apportion.core.errors import ApportionError, UsageError
from apportion.engine.batch.groups import grouped
from apportion.engine.batch.journal import Journal, Lock
from apportion.engine.batch.lines import Line, answered, read_lines, refused
from apportion.engine.batch.queue import GroupQueue, Waiting
from apportion.engine.chat_turn import PLAIN, ChatTurn, Frame
from apportion.engine.engine import MAX_RUNNING
from apportion.engine.openai import Ask, turn_of
from apportion.engine.prompts import Message, prompt_ids
from apportion.engine.request import Request, State
from apportion.kernels.ops import Ints

if TYPE_CHECKING:
    from apportion.engine.engine import Engine
    from apportion.engine.params import SamplingParams
    from apportion.text.tokenizer import Tokenizer

WINDOW_TOKENS = 4 << 20  # of prompts that are planned together; 16 MiB of token ids
EXPECTED_OUTPUT = 256  # tokens of an answer whose request does not bound it
SYNC_S = 1.0
MAX_FAILED_STEPS = 3  # in a row


class Host(Protocol):
    """What a batch runs on: an `LLM`, or a simulator in its place."""

    @property
    def name(self) -> str: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def engine(self) -> Engine: ...

    def chat_turn(self, messages: Sequence[Message], **asked: Any) -> ChatTurn:
        """A conversation as a prompt."""

    def request(
        self,
        ids: Ints,
        params: SamplingParams | None = None,
        *,
        continues: bool = True,
        frame: Frame = PLAIN,
    ) -> Request:
        """A request that no one has added yet."""


@dataclass(slots=True)
class BatchReport:
    """What a run of a batch did.

    Attributes:
        lines: in the input; `skipped` of them had their answers before.
        answered, failed: of this run.
    """

    lines: int = 0
    skipped: int = 0
    answered: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0

    @property
    def done(self) -> int:
        return self.skipped + self.answered + self.failed


Progress: TypeAlias = Callable[[BatchReport], None]


@dataclass(slots=True)
class Job:
    """A line on its way.

    Attributes:
        requests: by their places among its answers.
        left: answers that are still to come.
    """

    line: Line
    left: int
    turn: ChatTurn | None = None
    requests: dict[int, Request] = field(default_factory=dict)
    error: ApportionError | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """One of a line's requests, before it begins."""

    job: Job
    place: int
    ids: Ints
    params: SamplingParams


def run_batch(
    host: Host,
    source: str | Path,
    target: str | Path,
    *,
    concurrency: int = MAX_RUNNING,
    on_progress: Progress | None = None,
) -> BatchReport:
    """Answer every line of `source` that `target` does not answer yet.

    A request that fails is answered by its error; nothing is lost and nothing given twice, also where an
    earlier run was killed. Prompts that begin alike are run after each other, and what they share is
    computed once as long as memory holds it.

    Args:
        source: requests in OpenAI's batch format, one JSON object a line.
        target: answers, one a line, in the order in which they come; made where there is none.
        concurrency: as many requests are under way at once, as far as there is KV room for them.
        on_progress: called with the report so far, which changes.

    Raises:
        NotFound, DiskFault: a file cannot be read or written.
        BadFile: `target` holds something else.
        UsageError: `target` holds answers of another model, or another process writes to it.
    """
    source, target = Path(source), Path(target)
    report, begin = BatchReport(), time.monotonic()
    with Lock(target) as lock, Journal(target) as journal:
        lock.follow()
        check_model(journal, host.name)
        report.lines, report.skipped = count(source, journal)
        batch = Batch(host, journal, report, concurrency, on_progress or (lambda report: None))
        try:
            batch.run(line for line in read_lines(source) if line.id not in journal)
        finally:
            batch.cancel()
            journal.sync()
            report.seconds = time.monotonic() - begin
    return report


def count(source: Path, journal: Journal) -> tuple[int, int]:
    """Lines of the input, and how many of them are answered."""
    lines = answered = 0
    for line in read_lines(source):
        lines += 1
        answered += line.id in journal
    return lines, answered


def has_forms(source: Path) -> bool:
    """Whether some answer of a batch must have a form."""
    return any(isinstance(line.ask, Ask) and line.ask.params.has_form for line in read_lines(source))


def check_model(journal: Journal, name: str) -> None:
    if journal.model not in (None, name):
        raise UsageError(
            f"{journal.path.name} holds answers of another model",
            "answers of two models would mix",
            "name another file for these",
            found=journal.model,
            model=name,
        )


class Batch:
    """The lines of one run, from the first to the last answer."""

    def __init__(
        self, host: Host, journal: Journal, report: BatchReport, concurrency: int, tell: Progress
    ) -> None:
        self._host = host
        self._journal = journal
        self._report = report
        self._concurrency = concurrency
        self._tell = tell
        self._queue: GroupQueue[Piece] = GroupQueue()
        self._running: list[tuple[Piece, Request]] = []
        self._synced = time.monotonic()
        self._failed_steps = 0

    def run(self, lines: Iterable[Line]) -> None:
        """Answer all lines."""
        self._tell(self._report)
        for window in self._windows(lines):
            prompts = [piece.ids for piece in window]
            expected = [piece.params.max_tokens or EXPECTED_OUTPUT for piece in window]
            groups = grouped(prompts, expected)
            self._queue.add([window[place] for place in group.members] for group in groups)
            while len(self._queue):
                self._turn()
        while self._running:
            self._turn()

    def cancel(self) -> None:
        """End what runs; it has no answer."""
        for _, request in self._running:
            self._host.engine.cancel(request)
        self._running.clear()

    def _windows(self, lines: Iterable[Line]) -> Iterator[list[Piece]]:
        """Pieces of as many lines as are planned together."""
        window: list[Piece] = []
        num_tokens = 0
        for line in lines:
            for piece in self._pieces(line):
                window.append(piece)
                num_tokens += len(piece.ids)
            if num_tokens >= WINDOW_TOKENS:
                yield window
                window, num_tokens = [], 0
        if window:
            yield window

    def _pieces(self, line: Line) -> list[Piece]:
        """The requests of a line; none where it has failed already."""
        try:
            if isinstance(line.ask, ApportionError):
                raise line.ask
            return pieces_of(line, line.ask, self._host)
        except ApportionError as error:
            self._refuse(line, error)
            return []

    def _turn(self) -> None:
        """Let requests begin, do a step, and write down what is complete."""
        while len(self._running) < self._concurrency and (taken := self._queue.pop(self._has_room)):
            self._begin(*taken)
        self._step()
        ended = [pair for pair in self._running if pair[1].is_over]
        if ended:
            self._running = [pair for pair in self._running if not pair[1].is_over]
            for piece, request in ended:
                self._end(piece, request)
            self._tell(self._report)
        if time.monotonic() - self._synced >= SYNC_S:
            self._journal.sync()
            self._synced = time.monotonic()

    def _has_room(self, piece: Piece) -> bool:
        """Whether a request could enter and nothing that is kept would have to give way."""
        waiting = sum(request.most_tokens for _, request in self._running if request.state is State.WAITING)
        most = len(piece.ids) + (piece.params.max_tokens or EXPECTED_OUTPUT)
        return waiting + most <= self._host.engine.free_tokens

    def _begin(self, piece: Piece, group: Waiting[Piece]) -> None:
        if piece.job.error is not None:
            return
        try:
            turn = piece.job.turn
            frame = PLAIN if turn is None else turn.frame
            request = self._host.request(piece.ids, piece.params, continues=turn is None, frame=frame)
            self._host.engine.add(request)
        except ApportionError as error:
            self._fail(piece.job, error)
            return
        piece.job.requests[piece.place] = request
        self._running.append((piece, request))
        if group.leader is None:
            group.leader = request

    def _step(self) -> None:
        if not self._running:
            return
        try:
            self._host.engine.step()
            self._failed_steps = 0
        except ApportionError:  # everything is as it was before; a disk may have been slow
            self._failed_steps += 1
            if self._failed_steps >= MAX_FAILED_STEPS:
                raise

    def _end(self, piece: Piece, request: Request) -> None:
        job = piece.job
        if job.error is not None:
            return
        if request.error is not None:
            self._fail(job, request.error)
            return
        job.left -= 1
        if job.left:
            return
        answers = [job.requests[place].completion for place in sorted(job.requests)]
        now = int(time.time())
        line = answered(job.line, answers, self._host.name, now, self._host.tokenizer, job.turn)
        self._journal.append(line)
        self._report.answered += 1
        for answer in answers:
            self._report.prompt_tokens += answer.prompt_tokens
            self._report.cached_tokens += answer.cached_tokens
            self._report.output_tokens += answer.output_tokens

    def _fail(self, job: Job, error: ApportionError) -> None:
        """A line has no answer: its other requests are in vain."""
        job.error = error
        for request in job.requests.values():
            self._host.engine.cancel(request)
        self._refuse(job.line, error)

    def _refuse(self, line: Line, error: ApportionError) -> None:
        self._journal.append(refused(line, error))
        self._report.failed += 1
        self._tell(self._report)


def pieces_of(line: Line, ask: Ask, host: Host) -> list[Piece]:
    """The requests of a line.

    Raises:
        ApportionError: its prompts cannot be made, or are too long.
    """
    turn = None if ask.chat is None else turn_of(host, ask)
    prompts = [turn.ids] if turn else [prompt_ids(prompt, host.tokenizer) for prompt in ask.prompts]
    params = turn.held(ask.params) if turn else ask.params
    job = Job(line, len(prompts) * ask.num_choices, turn)
    return [
        Piece(job, place * ask.num_choices + choice, ids, seeded(params, choice))
        for place, ids in enumerate(prompts)
        for choice in range(ask.num_choices)
    ]


def seeded(params: SamplingParams, choice: int) -> SamplingParams:
    """The parameters of one of several answers: where a seed was given, each has its own."""
    return params if params.seed is None or not choice else replace(params, seed=params.seed + choice)
