"""Answer one prompt, streaming, with live speed."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from apportion.cli._failures import INTERRUPTED
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
from apportion.cli._output import closing_line, note, print_object, visible
from apportion.cli._progress import PhaseBars
from apportion.cli._serving import ServingOptions, serving_options
from apportion.cli._speaking import Speaker, reasoning_of
from apportion.core.errors import UsageError

if TYPE_CHECKING:
    from apportion.engine import LLM, Completion, SamplingParams, Stream
    from apportion.engine.prompts import Message
    from apportion.text.answer_parts import AnswerParts


@click.command()
@model_argument
@click.argument("prompt", required=False)
@click.option("--system", help="The system message, for models with a chat template.")
@click.option("--raw", is_flag=True, help="Continue the prompt as it is, without the chat template.")
@sampling_options
@ctx_option
@budget_options
@serving_options
@click.option("--samples", type=click.IntRange(min=1), default=1, help="So many answers to one prompt.")
@engine_options
@json_option
def command(
    model: str,
    prompt: str | None,
    system: str | None,
    raw: bool,
    params: SamplingParams,
    ctx: int | None,
    budget: BudgetOptions,
    serving: ServingOptions,
    samples: int,
    engine: EngineOptions,
    as_json: bool,
) -> int:
    """Answer one prompt, streaming, with live speed.

    MODEL is a path, hf:org/name[:quant], pypi:name==version, or a built-in name such as smollm2. PROMPT
    comes from standard input when it is `-`, or left out and piped. Where the model has a chat template, the
    prompt is a user's message.
    """
    if raw and system:
        raise UsageError("--system needs the chat template that --raw leaves out")
    text = read_prompt(prompt)
    with (
        PhaseBars() as bars,
        load_llm(model, engine, budget, ctx, bars, serving.serving(params.has_form)) as llm,
    ):
        asked: str | list[Message] = text
        if not raw and (llm.template is not None or system):
            asked = [{"role": "system", "content": system}] if system else []
            asked.append({"role": "user", "content": text})
        if samples > 1:
            show_samples(llm, llm.samples(asked, samples, params), as_json)
            return 0
        stream, parts = begun(llm, asked, params)
        speaker = Speaker(parts, silent=as_json)
        interrupted = speaker.follow(stream)
        if as_json:
            fields = replace(stream.completion, text=speaker.answer.text).to_dict()
            print_object(described(llm, fields | reasoning_of(speaker.answer)))
        else:
            click.echo()
            note(closing_line(stream.completion))
    return INTERRUPTED if interrupted else 0


def described(llm: LLM, fields: dict[str, Any]) -> dict[str, Any]:
    """What `--json` prints: the answer, whose it is, and what it took."""
    from apportion.core.resident import peak_rss_bytes

    return {"model": llm.name} | fields | {"peak_rss_bytes": peak_rss_bytes()}


def show_samples(llm: LLM, samples: list[Completion], as_json: bool) -> None:
    """Answers one below the other."""
    if as_json:
        print_object(described(llm, {"samples": [sample.to_dict() for sample in samples]}))
        return
    for number, sample in enumerate(samples, 1):
        click.echo(f"[{number}] {visible(sample.text)}\n")
    note(f"{len(samples)} answers, {sum(sample.output_tokens for sample in samples)} tokens")


def read_prompt(prompt: str | None) -> str:
    """The argument, or standard input; one line end at its end is the shell's and not the prompt's."""
    if prompt is not None and prompt != "-":
        return prompt
    if prompt is None and sys.stdin.isatty():
        raise UsageError("there is no prompt", hint='give one: apportion run MODEL "Why is the sky blue?"')
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UsageError("standard input is not UTF-8 text", error.reason, offset=error.start) from error


def begun(llm: LLM, asked: str | list[Message], params: SamplingParams) -> tuple[Stream, AnswerParts]:
    """An answer on its way, and what tells its parts apart; what continues a text is text."""
    from apportion.text.answer_parts import AnswerParts

    if isinstance(asked, str):
        return llm.stream(asked, params), AnswerParts()
    turn = llm.chat_turn(asked)
    request = llm.request(turn.ids, params, continues=False, frame=turn.frame)
    return llm.submit(request), turn.parts()
