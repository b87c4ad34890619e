"""Talk with a model, turn by turn."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apportion.cli._conversation import Conversation
from apportion.cli._failures import print_text
from apportion.cli._lines import LineReader, history_file
from apportion.cli._loading import load_llm
from apportion.cli._options import (
    BudgetOptions,
    EngineOptions,
    budget_options,
    ctx_option,
    engine_options,
    json_option,
    model_argument,
    sampling_options,
)
from apportion.cli._output import closing_line, note, print_object
from apportion.cli._progress import PhaseBars
from apportion.cli._serving import ServingOptions, keeping_options
from apportion.cli._speaking import Speaker, reasoning_of
from apportion.core.errors import ApportionError, UsageError, unknown

if TYPE_CHECKING:
    from apportion.engine import LLM, Completion, SamplingParams

HELP = '''\
/help          this list
/reset         forget what was said; the system message stays
/system TEXT   set the system message; without TEXT show it
/regen         answer the last question again
/save FILE     write the conversation as JSON
/load FILE     go on with a saved conversation
/stats         tokens and speed of the last answer
/quit          leave; Ctrl-D does the same
Ctrl-C stops an answer. A backslash at a line's end continues it; """ opens and closes a block of lines.'''


@click.command()
@model_argument
@click.option("--system", help="The system message.")
@sampling_options
@ctx_option
@budget_options
@keeping_options
@engine_options
@json_option
def command(
    model: str,
    system: str | None,
    params: SamplingParams,
    ctx: int | None,
    budget: BudgetOptions,
    serving: ServingOptions,
    engine: EngineOptions,
    as_json: bool,
) -> None:
    """Talk with a model, turn by turn.

    Reads one message a line, from the terminal or from a pipe; /help lists what else can be typed. With
    --json one object with all turns is printed at the end.
    """
    from apportion.core.resident import peak_rss_bytes

    with (
        PhaseBars() as bars,
        load_llm(model, engine, budget, ctx, bars, serving.serving(params.has_form)) as llm,
    ):
        llm.require_template()
        chat = Chat(llm, Conversation(system), params, silent=as_json)
        chat.loop()
    if as_json:
        print_object({"model": llm.name, "turns": chat.turns, "peak_rss_bytes": peak_rss_bytes()})


class Chat:
    """A conversation at a terminal, or through a pipe.

    Args:
        silent: answers go to stderr, if a person is there to see them, and not to stdout.
    """

    def __init__(self, llm: LLM, conversation: Conversation, params: SamplingParams, *, silent: bool) -> None:
        self.llm = llm
        self.conversation = conversation
        self.params = params
        self.turns: list[dict[str, Any]] = []
        self._silent = silent
        self._interactive = sys.stdin.isatty()
        self._last: Completion | None = None

    def loop(self) -> None:
        """Until the end of the input, /quit, or Ctrl-C twice at the prompt."""
        reader = LineReader(self._interactive, history_file())
        if self._interactive:
            note(f"{self.llm.name}: /help lists what can be typed, Ctrl-D leaves")
        interrupted = False
        try:
            while True:
                try:
                    if not self._take(reader.read()):
                        return
                    interrupted = False
                except EOFError:
                    return
                except KeyboardInterrupt:
                    if interrupted:
                        return
                    interrupted = True
                    note("\nCtrl-C again leaves, and so does Ctrl-D")
        finally:
            reader.close()

    def _take(self, message: str) -> bool:
        """Do what a message asks; False to leave. At a terminal a failure ends the turn, else the chat."""
        try:
            if message.startswith("/"):
                return self._command(*message[1:].split(maxsplit=1))
            if message.strip():
                self.conversation.say("user", message)
                self._answer()
        except (ApportionError, OSError) as error:
            if not self._interactive:
                raise
            print_text(error if isinstance(error, ApportionError) else UsageError(str(error)))
        return True

    def _command(self, name: str = "", rest: str = "") -> bool:
        match name:
            case "quit" | "exit" | "bye":
                return False
            case "help" | "?":
                note(HELP)
            case "reset":
                self.conversation.reset()
            case "system":
                self.conversation.set_system(rest) if rest else note(
                    self.conversation.system or "none is set"
                )
            case "regen":
                self.conversation.take_back_answer()
                self._answer()
            case "save":
                self.conversation.save(path_of(rest))
            case "load":
                self.conversation.load(path_of(rest))
                note(f"{len(self.conversation.messages)} messages")
            case "stats":
                note(closing_line(self._last) if self._last else "nothing was answered yet")
            case _:
                known = ("help", "reset", "system", "regen", "save", "load", "stats", "quit")
                raise unknown("command", name, known, UsageError)
        return True

    def _answer(self) -> None:
        """Stream the answer to the last message and keep it, also when Ctrl-C cuts it short."""
        try:
            turn = self.llm.chat_turn(self.conversation.messages)
            stream = self.llm.submit(
                self.llm.request(turn.ids, self.params, continues=False, frame=turn.frame)
            )
        except ApportionError:
            self.conversation.take_back()  # so that the next message finds the chat as it was
            raise
        question = self.conversation.messages[-1]["content"]
        speaker = Speaker(turn.parts(), silent=self._is_quiet, to_stderr=self._silent)
        speaker.follow(stream)
        self._show("\n")
        self._last, said = stream.completion, speaker.answer
        self.conversation.say("assistant", said.text)
        fields = replace(self._last, text=said.text, logprobs=None).to_dict()
        self.turns.append({"user": question} | fields | reasoning_of(said))

    @property
    def _is_quiet(self) -> bool:
        """Nothing is shown but the object at the end."""
        return self._silent and not self._interactive

    def _show(self, text: str) -> None:
        if not self._is_quiet:
            click.echo(text, nl=False, err=self._silent)


def path_of(word: str) -> Path:
    if not word:
        raise UsageError("a file name is missing", hint="for example /save talk.json")
    return Path(word).expanduser()
