"""Fenced blocks that a page marks with `<!-- executed -->`, for the test that runs them.

A page's blocks run in order, in one empty folder; Python blocks of a page share their names. A page that
speaks of a model by its short name needs it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MARK = re.compile(r"^<!-- executed -->[ \t]*$", re.MULTILINE)
BLOCK = re.compile(r"\s*```(?P<language>[a-z]+)[^\n]*\n(?P<code>.*?)\n```[ \t]*$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """One marked block: its first line in the page, its language, its code."""

    line: int
    language: str
    code: str


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def executed_blocks(text: str) -> list[Block]:
    blocks = []
    for mark in MARK.finditer(text):
        block = BLOCK.match(text, mark.end())
        line = text.count("\n", 0, mark.end()) + 2
        assert block is not None, f"line {line}: no fenced block follows the mark"
        assert block["language"] in ("bash", "console", "python"), (
            f"line {line}: cannot run {block['language']}"
        )
        blocks.append(Block(line, block["language"], block["code"]))
    return blocks


def script(blocks: list[Block]) -> str:
    """One Python program that runs the blocks in order and says on stderr where it is."""
    lines = ["import subprocess, sys", "names = {'__name__': '__main__'}"]
    for block in blocks:
        lines.append(f"print('block at line {block.line}', file=sys.stderr, flush=True)")
        if block.language == "python":
            lines.append(f"exec(compile({block.code!r}, 'block at line {block.line}', 'exec'), names)")
        else:
            lines.append(
                f"subprocess.run(['bash', '-euo', 'pipefail', '-c', {_commands(block)!r}], check=True)"
            )
    return "\n".join(lines)


def _commands(block: Block) -> str:
    """A console block shows commands after `$ ` and their output without; only commands run."""
    if block.language == "bash":
        return block.code
    return "\n".join(line[2:] for line in block.code.splitlines() if line.startswith("$ "))
