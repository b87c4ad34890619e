"""How a failure reaches the user: what, why, hint on stderr, or one JSON object; never a bare traceback."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from contextlib import suppress

import click

from apportion.core.errors import ApportionError, DiskFault, DoesNotFit, NotFound, UsageError
from apportion.core.streams import to_nowhere

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
# A group of verbs was called without one; the message is its help. Older click exits by itself.
BARE_CALL: type[click.UsageError] | tuple[()] = getattr(click.exceptions, "NoArgsIsHelpError", ())
UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h: a defect of ours, not of the input


def report_failure(error: Exception, *, as_json: bool) -> int:
    """Print `error` for a person or a program; returns the exit status."""
    if isinstance(error, click.Abort):
        return INTERRUPTED
    if isinstance(error, BARE_CALL) and not as_json:
        click.echo(error.format_message(), err=True)
        return UsageError.exit_status
    known = as_known(error)
    if known is None:
        known = unexpected(error)
        status = UNEXPECTED
    else:
        status = known.exit_status
    if debugging():
        traceback.print_exception(error)
    print_json(known) if as_json else print_text(known)
    return status


def debugging() -> bool:
    from apportion.core.settings import DEBUG, get

    with suppress(ApportionError):  # a faulty settings file must not hide the failure at hand
        return get(DEBUG)
    return False


def as_known(error: Exception) -> ApportionError | None:
    """The error as one of the tree; None for what nobody foresaw."""
    match error:
        case ApportionError():
            return error
        case click.UsageError():
            return from_usage_error(error)
        case click.ClickException():
            return UsageError(error.format_message())
        case FileNotFoundError():
            return NotFound(f"no such file: {error.filename}", error.strerror or "", "check the path")
        case OSError() if error.errno is not None:
            what = f"cannot use {error.filename}" if error.filename else "the operating system refused"
            hint = "free some space" if error.errno == errno.ENOSPC else "check the path and its permissions"
            return DiskFault(what, error.strerror or str(error), hint)
        case MemoryError():
            return DoesNotFit("out of memory", str(error), "choose a smaller model or a smaller --ctx")
    return None


def from_usage_error(error: click.UsageError) -> UsageError:
    path = error.ctx.command_path if error.ctx else "apportion"
    return UsageError(error.format_message().rstrip("."), hint=f"`{path} --help` shows what it takes")


def unexpected(error: Exception) -> ApportionError:
    return ApportionError(
        "apportion failed in a way that it should not",
        f"{type(error).__name__}: {error}",
        "please report it, with the output of the same command under APPORTION_DEBUG=1",
    )


def print_text(error: ApportionError) -> None:
    lines = [click.style("error: ", fg="red", bold=True) + printable(error.what)]
    why = printable(error.why)
    if error.numbers:
        figures = ", ".join(f"{name}={value}" for name, value in error.numbers.items())
        why = f"{why} ({printable(figures)})".lstrip()
    if why:
        lines.append(f"  why: {why}")
    if error.hint:
        lines.append(f"  hint: {printable(error.hint)}")
    # None lets click strip the colour when stderr is no terminal.
    click.echo("\n".join(lines), err=True, color=False if os.environ.get("NO_COLOR") else None)


def print_json(error: ApportionError) -> None:
    import json

    click.echo(json.dumps({"error": error.to_dict()}, default=str))


def printable(text: str) -> str:
    """Names come from untrusted files: no control character reaches the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


class ReaderLeft(Exception):
    """Whoever read our output has closed it."""


def broken_pipe() -> int:
    """The reader left (`| head`): stay quiet."""
    to_nowhere(sys.stdout)
    return 0
