"""DeepSeek V3.1: a name and JSON between marks with full-width bars."""

from __future__ import annotations

from collections.abc import Sequence

from apportion.text.lark_rules import Written, arguments_rule, quoted
from apportion.text.tool_calls.deepseek import (
    ALL_BEGIN,
    ALL_END,
    BEGIN,
    END,
    OPEN_FENCE,
    SEPARATOR,
    DeepSeek,
)
from apportion.text.tools import Tool


class DeepSeekV31(DeepSeek):
    """A name and a JSON object, with marks that have full-width bars between."""

    models = "DeepSeek V3.1"
    example = f'{ALL_BEGIN}{BEGIN}weather{SEPARATOR}{{"city": "Oslo"}}{END}{ALL_END}'

    def matches(self, template: str) -> bool:
        return ALL_BEGIN in template and OPEN_FENCE not in template

    def calls(self, tools: Sequence[Tool], parallel: bool, written: Written) -> str:
        bodies = [f"{quoted(tool.name)} {written(SEPARATOR)} {arguments_rule(tool)}" for tool in tools]
        several = "call+" if parallel else "call"
        return (
            f"calls: {written(ALL_BEGIN)} {several} {written(ALL_END)}\n"
            f"call: {written(BEGIN)} ({' | '.join(bodies)}) {written(END)}\n"
        )


FORMAT = DeepSeekV31()
