"""One turn of a chat: the conversation as a prompt, and how the answer to it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from apportion.core.errors import LimitExceeded, UsageError, unknown
from apportion.engine.grammar.spec import MAX_GRAMMAR_NBYTES
from apportion.engine.params import SamplingParams
from apportion.engine.prompts import Message, checked, required, text_ids
from apportion.kernels.ops import Ints
from apportion.text.answer import Answer, answer_of
from apportion.text.answer_parts import AnswerParts
from apportion.text.lark_rules import Written, quoted, text_up_to
from apportion.text.messages import checked_messages
from apportion.text.reasoning import ReasoningMarks, reasoning_marks
from apportion.text.tool_calls import BASELINE, TOOL_FORMATS, ToolFormat, format_of
from apportion.text.tools import Tool, checked_tools
from apportion.text.tools_told import knows_tools, told

if TYPE_CHECKING:
    from apportion.text.chat_template import ChatTemplate
    from apportion.text.tokenizer import Tokenizer

ToolChoice: TypeAlias = Literal["auto", "none", "required"]


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around and within an answer beside its text.

    Attributes:
        shown: control tokens whose text is part of the answer's; that of all others is left out.
        before: Lark rules of what may stand before an answer that must have a form; the rule `before` is the
            whole of it. Empty where nothing may.
    """

    shown: frozenset[int] = frozenset()
    before: str = ""


PLAIN = Frame()


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """A conversation, written as the model expects it.

    Attributes:
        ids: token ids [n] of the prompt.
        frame: for `LLM.request`.
        tool_format: how calls are read; None where all is text.
        calls: Lark rules that hold the answer to calls; empty where it is free.
    """

    ids: Ints
    frame: Frame
    tool_format: ToolFormat | None
    tools: tuple[Tool, ...]
    reasoning: ReasoningMarks | None
    is_open: bool
    calls: str = ""

    def held(self, params: SamplingParams | None = None) -> SamplingParams:
        """The parameters, for an answer that is held to calls where calls are required.

        Raises:
            UsageError: calls are required, and the parameters ask for another form.
            LimitExceeded: the schemas of all tools are longer than 64 KiB.
        """
        params = params or SamplingParams()
        if not self.calls:
            return params
        if params.has_form:
            raise UsageError(
                "a call is required, and the answer must have another form", "an answer has one form"
            )
        nbytes = len(self.calls.encode("utf-8", "surrogatepass"))
        if nbytes > MAX_GRAMMAR_NBYTES:
            raise LimitExceeded(
                "the schemas of the tools are too long to hold an answer to",
                "all tools that may be called count",
                "name the one that must be called, or offer fewer",
                nbytes=nbytes,
                limit=MAX_GRAMMAR_NBYTES,
            )
        return replace(params, grammar=self.calls)

    def parts(self) -> AnswerParts:
        """Tells apart the parts of one answer; every answer needs one of its own."""
        return AnswerParts(self.tool_format, self.tools, self.reasoning, self.is_open)

    def read(self, text: str) -> Answer:
        """A whole answer: its text, reasoning and calls."""
        parts = self.parts()
        return answer_of([*parts.feed(text), *parts.finish()])


def chat_turn(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    name: str,
    *,
    ctx: int | None = None,
    tools: Sequence[Mapping[str, Any] | Tool] = (),
    tool_choice: ToolChoice = "auto",
    names: Sequence[str] | None = None,
    parallel: bool = True,
    template_kwargs: Mapping[str, Any] | None = None,
) -> ChatTurn:
    """The messages as the model's chat template writes them, and the start of the answer behind them.

    Args:
        name: of the model.
        ctx: positions of its context, where a prompt that cannot fit is to be refused early.
        tools: functions that it may call.
        tool_choice: `none` says nothing of tools to the model, `required` holds its answer to calls.
        names: of the tools that may be called; None for all.
        parallel: an answer that is held to calls may have several.
        template_kwargs: what the template reads besides, as in `text.chat_template.VARIABLES`.

    Raises:
        Unsupported: the model has no chat template.
        TemplateError: the template refuses the messages.
        UsageError: a message, a tool or a variable is malformed or unknown.
    """
    template = required(template, name)
    offered = () if tool_choice == "none" else checked_tools(tools)
    if tool_choice == "required" and not offered:
        raise UsageError("a call is required, and there are no tools")
    callable_ones = chosen(offered, names)
    source = template.source_for(bool(offered))
    tool_format = used_format(source)
    plain = tool_format.history(checked_messages(checked(messages)))
    prompt = prompt_text(plain, template, source, offered, template_kwargs or {})
    reads_format = bool(offered) or tool_format.frames_answers
    reasoning = None if tool_format.frames_answers else reasoning_marks(source)
    is_open = reasoning is not None and reasoning.is_open_in(prompt)
    is_closed = reasoning is not None and reasoning.is_closed_in(prompt)
    style = Style(tool_format if reads_format else None, reasoning, is_open, is_closed, marks_of(tokenizer))
    return ChatTurn(
        text_ids(prompt, tokenizer, ctx),
        Frame(style.shown(tokenizer), style.before(tool_choice == "required")),
        style.tool_format,
        callable_ones,
        reasoning,
        is_open,
        style.calls(callable_ones, parallel) if tool_choice == "required" else "",
    )


def chat_text(
    messages: Sequence[Message],
    template: ChatTemplate | None,
    name: str,
    *,
    tools: Sequence[Mapping[str, Any] | Tool] = (),
    template_kwargs: Mapping[str, Any] | None = None,
    add_generation_prompt: bool = True,
) -> str:
    """The messages as text, as the model's chat template writes them.

    Args:
        add_generation_prompt: end with the beginning of the answer.

    The other arguments, and what it raises, are those of `chat_turn`.
    """
    template = required(template, name)
    offered = checked_tools(tools)
    variables = {**(template_kwargs or {}), "add_generation_prompt": add_generation_prompt}
    return prompt_text(messages, template, template.source_for(bool(offered)), offered, variables)


@dataclass(frozen=True, slots=True)
class Style:
    """How a model marks what is not plain text in its answers to one prompt."""

    tool_format: ToolFormat | None
    reasoning: ReasoningMarks | None
    is_open: bool
    is_closed: bool
    written: Written

    def shown(self, tokenizer: Tokenizer) -> frozenset[int]:
        """The marks that are control tokens."""
        marks = self.tool_format.marks if self.tool_format is not None else ()
        if self.reasoning is not None:
            marks += (self.reasoning.begin, self.reasoning.end)
        tokens = {control_token(mark, tokenizer) for mark in marks}
        return frozenset(token for token in tokens if token is not None)

    def before(self, has_calls: bool) -> str:
        """Lark rules of what stands before an answer that is held to calls, or to another form."""
        if self.reasoning is not None and self.is_open:
            return "before: thought SPACES\n" + self._thought(self.reasoning)
        return "" if has_calls or self.tool_format is None else self.tool_format.before(self.written)

    def calls(self, tools: Sequence[Tool], parallel: bool) -> str:
        """The grammar of an answer of calls; reasoning may go before them."""
        assert self.tool_format is not None
        rules = self.tool_format.calls(tools, parallel, self.written)
        if self.reasoning is None or self.is_open or self.is_closed:
            return f"start: calls\n{rules}"
        first = f"start: (begin thought SPACES)? calls\nbegin: {self.written(self.reasoning.begin)}\n"
        return first + self._thought(self.reasoning) + rules

    def _thought(self, marks: ReasoningMarks) -> str:
        return text_up_to("thought", marks.end, self.written) + "SPACES: /[ \\n]{0,4}/\n"


def chosen(tools: tuple[Tool, ...], names: Sequence[str] | None) -> tuple[Tool, ...]:
    """Those that may be called."""
    if names is None:
        return tools
    known = {tool.name: tool for tool in tools}
    for name in names:
        if name not in known and tools:
            raise unknown("tool", str(name)[:64], known, UsageError)
    return tuple(known[name] for name in names if name in known)


def used_format(source: str) -> ToolFormat:
    """How the model writes calls: as its template tells it to, or else as we do."""
    tool_format = format_of(source)
    knows = knows_tools(source) or tool_format.frames_answers
    return tool_format if knows else TOOL_FORMATS.get(BASELINE)


def prompt_text(
    messages: Sequence[Message],
    template: ChatTemplate,
    source: str,
    tools: tuple[Tool, ...],
    variables: Mapping[str, Any],
) -> str:
    """The rendered prompt. Templates that know no tools get them as text."""
    plain = [as_known(message, source) for message in messages]
    if knows_tools(source) or not (tools or any(speaks_of_tools(message) for message in plain)):
        return template.render(plain, tools=[tool.told() for tool in tools] or None, **variables)
    return template.render(told(plain, tools, source), **variables)


def as_known(message: Message, source: str) -> Message:
    """A developer's message is the system's for templates that know no developers."""
    if message["role"] == "developer" and "developer" not in source:
        return {**message, "role": "system"}
    return message


def speaks_of_tools(message: Message) -> bool:
    return message.get("role") == "tool" or bool(message.get("tool_calls"))


def marks_of(tokenizer: Tokenizer) -> Written:
    """How marks are written in grammars for this model: a control token is no text."""

    def written(mark: str) -> str:
        token = control_token(mark, tokenizer)
        return quoted(mark) if token is None else f"<[{token}]>"

    return written


def control_token(mark: str, tokenizer: Tokenizer) -> int | None:
    """The control token that is spelt so; None where it is text."""
    ids = tokenizer.encode(mark, add_special=False, parse_special=True)
    return ids[0] if len(ids) == 1 and tokenizer.is_special(ids[0]) else None
