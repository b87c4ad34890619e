"""Chat templates: the text that a model expects for a list of messages.

A template is a Jinja program that comes with a checkpoint, so it is not trusted: it runs in another process.
"""

from __future__ import annotations

import datetime
import difflib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from apportion.core.clock import Clock, RealClock
from apportion.core.errors import BadFile, LimitExceeded, TemplateError, UsageError
from apportion.formats.bounded_json import MAX_CONFIG_NBYTES, parse_json_bounded
from apportion.formats.side_files import TEMPLATES, SideFiles, files_of
from apportion.text.messages import checked_messages, other_shapes
from apportion.text.template_process import FAILED, TemplateProcess

MAX_TEMPLATE_CHARS = 256 << 10

# What templates of public models read beside messages, tools and documents.
VARIABLES = frozenset(
    {
        "add_vision_id",
        "builtin_tools",
        "citations",
        "clear_thinking",
        "controls",
        "custom_tools",
        "date_string",
        "documents",
        "enable_thinking",
        "functions",
        "keep_past_thinking",
        "low_effort",
        "model_identity",
        "preserve_thinking",
        "python_tools",
        "reasoning_effort",
        "safety_mode",
        "thinking",
        "thinking_budget",
        "tool_choice",
        "tools_in_user_message",
        "truncate_history_thinking",
        "xml_tools",
    }
)


class ChatTemplate:
    """One model's template, or its set of named ones.

    Args:
        source: the template.
        bos_token, eos_token: the texts of the tokens that begin and end a sequence.
        tool_use: another template, for chats with tools.
        clock: where templates that tell the date get it.

    Raises:
        LimitExceeded: a template is longer than 256 Ki characters.
    """

    def __init__(
        self,
        source: str,
        *,
        bos_token: str = "",
        eos_token: str = "",
        tool_use: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        for text in (source, tool_use or ""):
            if len(text) > MAX_TEMPLATE_CHARS:
                raise LimitExceeded(
                    "the chat template is too long", chars=len(text), limit=MAX_TEMPLATE_CHARS
                )
        self.source = source
        self.tool_use = tool_use
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        self._clock = clock or RealClock()
        self._process = TemplateProcess()

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> str:
        """The prompt for these messages.

        Args:
            messages: objects with `role` and `content` (a text, or a list of text parts).
            tools: functions that the model may call, as JSON schemas.
            add_generation_prompt: end with the beginning of the model's answer.
            variables: what the template reads besides; the names in `VARIABLES`.

        Raises:
            UsageError: a message or variable is malformed or unknown.
            TemplateError: the template refused the messages, failed, or broke a limit.
        """
        for name in variables:
            if name not in VARIABLES:
                raise _unknown(name)
        given = {
            **variables,
            **self._tokens,
            "messages": checked_messages(messages),
            "add_generation_prompt": add_generation_prompt,
        }
        if tools:
            given["tools"] = list(tools)
        _check_plain(given)
        source = self.source_for(bool(tools))
        try:
            return self._rendered(source, given)
        except TemplateError as error:
            if error.what != FAILED:
                raise
            for other in other_shapes(given["messages"]):
                with suppress(TemplateError):
                    return self._rendered(source, {**given, "messages": other})
            raise

    def _rendered(self, source: str, given: dict[str, Any]) -> str:
        now = datetime.datetime.fromtimestamp(self._clock.wall())
        return self._process.render(source, given, list(now.timetuple()[:6]))

    def source_for(self, has_tools: bool) -> str:
        """The template for a chat with tools, or without."""
        return self.tool_use if has_tools and self.tool_use is not None else self.source

    def close(self) -> None:
        """End the process that renders; the next rendering starts a new one."""
        self._process.close()


def _unknown(name: str) -> UsageError:
    close = difflib.get_close_matches(name, VARIABLES, 1)
    hint = f"did you mean {close[0]}?" if close else "known: " + " ".join(sorted(VARIABLES))
    return UsageError(f"unknown chat template variable: {name[:64]}", hint=hint)


def _check_plain(value: object) -> None:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError("messages, tools and variables must be plain JSON data", str(error)[:200]) from None


def chat_template_from_gguf(metadata: Mapping[str, Any]) -> ChatTemplate | None:
    """The template that a GGUF file carries; None if it has none.

    Raises:
        BadFile: a template is not a text.
        LimitExceeded: a template is too long.
    """
    source = _text(metadata.get("tokenizer.chat_template"), "tokenizer.chat_template")
    tool_use = _text(metadata.get("tokenizer.chat_template.tool_use"), "tokenizer.chat_template.tool_use")
    source = source if source is not None else tool_use
    if source is None:
        return None
    return ChatTemplate(
        source,
        bos_token=_token_text(metadata, "bos"),
        eos_token=_token_text(metadata, "eos"),
        tool_use=tool_use,
    )


def _text(value: object, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise BadFile(f"{name} is not a text", found=type(value).__name__)
    return value


def _token_text(metadata: Mapping[str, Any], name: str) -> str:
    token = metadata.get(f"tokenizer.ggml.{name}_token_id")
    tokens = metadata.get("tokenizer.ggml.tokens")
    if token is None or not isinstance(tokens, Sequence):
        return ""
    if not isinstance(token, int) or not 0 <= token < len(tokens) or not isinstance(tokens[token], str):
        raise BadFile(f"tokenizer.ggml.{name}_token_id is not a token", id=str(token)[:32])
    return str(tokens[token])


def chat_template_from_folder(folder: Path | SideFiles) -> ChatTemplate | None:
    """The template of a Hugging Face folder, or of its files wherever they lie: `chat_template.jinja`, else
    `tokenizer_config.json`.

    Raises:
        BadFile: a file is malformed.
        LimitExceeded: a template is too long.
    """
    files = files_of(folder)
    config = _config(files, "tokenizer_config.json")
    named = _named_templates(config.get("chat_template"))
    named |= _template_files(files)
    if not named:
        return None
    source = named.get("default", next(iter(named.values())))
    return ChatTemplate(
        source,
        bos_token=_special(config, "bos_token"),
        eos_token=_special(config, "eos_token"),
        tool_use=named.get("tool_use"),
    )


def _config(files: SideFiles, name: str) -> dict[str, Any]:
    config = parse_json_bounded(files.read(name, MAX_CONFIG_NBYTES), name) if files.has(name) else {}
    if not isinstance(config, dict):
        raise BadFile(f"{name} is not a JSON object", found=type(config).__name__)
    return config


def _template_files(files: SideFiles) -> dict[str, str]:
    """Templates in files of their own, which go before those in the configuration."""
    named = {"default": "chat_template.jinja"} if files.has("chat_template.jinja") else {}
    named |= {Path(name).stem: name for name in files.names() if name.startswith(f"{TEMPLATES}/")}
    return {template: _template_text(files, name) for template, name in named.items()}


def _template_text(files: SideFiles, name: str) -> str:
    data = files.read(name, 4 * MAX_TEMPLATE_CHARS)
    try:
        return str(data, "utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise BadFile(f"{name} is not UTF-8 text", str(error)[:200]) from None


def _named_templates(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if isinstance(value, str):
        return {"default": value}
    entries = value if isinstance(value, list) else [value]
    found = {}
    for entry in entries:
        name, text = (entry.get("name"), entry.get("template")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(text, str):
            raise BadFile("tokenizer_config.json: chat_template is neither a text nor a list of named texts")
        found[name] = text
    return found


def _special(config: Mapping[str, Any], name: str) -> str:
    value = config.get(name)
    if isinstance(value, Mapping):
        value = value.get("content")
    return _text(value, f"tokenizer_config.json: {name}") or ""
