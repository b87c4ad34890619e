"""The lazy verb group: verbs are files, found by name, imported when called."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apportion.cli._failures import ReaderLeft, broken_pipe, report_failure
from apportion.cli._streams import open_closed_streams
from apportion.core.errors import UsageError, unknown

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

FOLDER = Path(__file__).parent
SUMMARY = re.compile(r'\A[rR]?"""(.*?)\.?(?:"""|\n)')


def verb_files(folder: Path = FOLDER) -> dict[str, Path]:
    """Verb name -> its file, by name. `_` in a file's name is `-` in the verb's."""
    return {
        path.stem.replace("_", "-"): path
        for path in sorted(folder.glob("*.py"))
        if not path.name.startswith("_")
    }


def summary(path: Path) -> str:
    """The first docstring line of a module, read without importing or compiling it."""
    with path.open(encoding="utf-8") as file:
        match = SUMMARY.match(file.read(400))
    return match.group(1) if match else ""


class VerbGroup(click.Group):
    """A click group over the files of one folder, with one way to report failures."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(verb_files())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        path = verb_files().get(cmd_name)
        if path is None:
            return None
        command = importlib.import_module(f"apportion.cli.{path.stem}").command
        assert isinstance(command, click.Command), path
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not ctx.resilient_parsing and not name.startswith("-") and name not in verb_files():
            raise unknown("verb", name, verb_files(), UsageError)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if rows := [(name, summary(path)) for name, path in verb_files().items()]:
            with formatter.section("Verbs"):
                formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        verbs = [
            CompletionItem(name, help=summary(path))
            for name, path in verb_files().items()
            if name.startswith(incomplete)
        ]
        return verbs + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise ReaderLeft from None  # click itself would exit with 1
        except SystemExit as end:
            if isinstance(end.__context__, BrokenPipeError):
                raise ReaderLeft from None  # as rich has done
            raise

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run one command line and exit; a verb that returns an int chooses its exit status."""
        open_closed_streams()
        words = list(sys.argv[1:] if args is None else args)
        prog_name = prog_name or self.name
        if not standalone_mode:
            return super().main(words, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            try:
                result = super().main(words, prog_name, complete_var, standalone_mode=False, **extra)
            except ReaderLeft:
                raise
            except Exception as error:
                result = report_failure(error, as_json=wants_json(words))
            sys.stdout.flush()
        except (BrokenPipeError, ReaderLeft):
            result = broken_pipe()
        sys.exit(result if isinstance(result, int) else 0)


def wants_json(words: Sequence[str]) -> bool:
    """Whether `--json` stands among the options; known before a faulty command line is parsed."""
    options = words[: words.index("--")] if "--" in words else words
    return "--json" in options
