"""Newer Mistral models: a name and arguments, each behind a mark."""

from __future__ import annotations

from collections.abc import Sequence

from apportion.text.lark_rules import Written, arguments_rule, quoted
from apportion.text.tool_calls.mistral import ARGS, BEGIN, Mistral
from apportion.text.tools import Tool


class MistralArgs(Mistral):
    """`[TOOL_CALLS]`, a name, `[ARGS]` and a JSON object, for each call; an id may follow the name."""

    models = "Mistral Small 3.2, Magistral, Devstral, Ministral 3"
    example = '[TOOL_CALLS]weather[ARGS]{"city": "Oslo"}'

    def matches(self, template: str) -> bool:
        return BEGIN in template and ARGS in template

    def calls(self, tools: Sequence[Tool], parallel: bool, written: Written) -> str:
        bodies = [f"{quoted(tool.name)} {written(ARGS)} {arguments_rule(tool)}" for tool in tools]
        return f"calls: call{'+' if parallel else ''}\ncall: {written(BEGIN)} ({' | '.join(bodies)})\n"


FORMAT = MistralArgs()
